#!/usr/bin/env bash
# The original's client app: ask for the work, read the answer.
echo START
IFS= read -r answer
[[ $answer = SUCCESS:* ]]
