# Each target does its own set-up. `make demo` and `make test` are the two to know.
.PHONY: demo demo-containers test check bench soak containers coverage figures clean

demo: ## the fisheye pipeline, server and pipeline as two local processes
	examples/fisheye/demo.sh

demo-containers: ## the same in two real containers
	examples/fisheye/demo-containers.sh

test: ## every test, on every Python from 3.11 on that is found here
	tools/test.sh

check: ## lint, format, types, import direction
	tools/check.sh

containers: ## only the tests that cross containers
	tools/test.sh tests/containers

bench: ## side-by-side measurements
	tools/python.sh benchmarks/bench.py

soak: ## thousands of calls under random kills, on one host and across containers, and servers racing for a name
	tools/python.sh benchmarks/soak 10000
	tools/python.sh benchmarks/soak/race.py 400
	SIDECALL_SOAK_CALLS=2000 tools/test.sh -s tests/containers/test_faults.py

coverage: ## branch coverage of the tests
	tools/coverage.sh

figures: ## what the code looks like in numbers
	tools/python.sh tools/figures.py

clean:
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .coverage*
