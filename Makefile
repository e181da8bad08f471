# Each target does its own set-up. `make demo` and `make test` are the two to know.
help: ## this list
	@sed -n 's/^\([a-z-]*\): ## \(.*\)/\1\t\2/p' Makefile | expand -t 18

.PHONY: help cpython demo picture demo-containers demo-untouched test check bench soak attacks fuzz native native-test standalone standalone-test wheels containers coverage figures clean

demo: ## the fisheye pipeline, server and pipeline as two local processes
	examples/fisheye/demo.sh

picture: ## the same, and README.md's picture of it: docs/before-after.jpg
	examples/fisheye/demo.sh docs/before-after.jpg

demo-containers: ## the same in two real containers
	examples/fisheye/demo-containers.sh

demo-untouched: ## a stock image serves another, with one file on a volume
	examples/untouched/demo.sh

test: ## every test, on every Python from 3.11 on that is found here
	tools/test.sh

check: ## lint, format, types, import direction
	tools/check.sh

containers: ## only the tests that cross containers
	tools/python.sh -m pytest tests/containers

attacks: ## what a hostile caller tries, and what it comes to, as a table
	tools/python.sh -m pytest -q tests/attacks tests/files/test_outputs.py tests/cli/test_status.py \
		tests/server/test_faults.py tests/containers/test_policy.py tests/containers/test_attacks.py

cpython: ## CPython's own tests of subprocess, with each command started by sidecall exec
	tools/cpython.sh

fuzz: ## a minute of fuzzing in all: codec, states, parameters, calls, configuration
	tools/fuzz.sh 12

native: ## the native client of `sidecall exec` and `connect`: static binaries for x86_64 and aarch64 in build/native
	native/build.sh

native-test: ## the native client with sanitizers, against the tests of the Python one
	native/test.sh

standalone: ## all of `sidecall` as one static executable, for images without Python: build/native/sidecall-MACHINE
	native/standalone/build.sh

standalone-test: ## the end-to-end tests of the Python command, with the standalone executable in its place
	native/standalone/test.sh

wheels: ## what is released, in dist: source, a pure wheel, wheels with the native client
	tools/wheels.sh

bench: ## beside what people use today, ten minutes, into docs/benchmarks.md; `make bench ROUNDS=5` only tries it out
	tools/bench.sh $(ROUNDS)

soak: ## thousands of calls under random kills, servers racing for a name, hours of fuzzing
	tools/python.sh benchmarks/soak 10000
	tools/python.sh benchmarks/soak/race.py 400
	tools/python.sh benchmarks/floods.py
	SIDECALL_SOAK_CALLS=2000 tools/python.sh -m pytest -s tests/containers/test_faults.py
	tools/fuzz.sh 3600

coverage: ## branch coverage of the Python code, with a floor, and line coverage of the native programs
	tools/coverage.sh

figures: ## what the code looks like in numbers
	tools/python.sh tools/figures.py

clean:
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .coverage*
