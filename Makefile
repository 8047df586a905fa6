# The commands of this project. Each does its own set-up; all are quick the second time.

.PHONY: help setup demo demo-agents test unit coverage faults reboots chaos fuzz model nixos lint bench docs clean

help:            ## list these
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*## */\t/' | expand -t 12

setup:           ## system packages, Docker engine, virtual environment
	@.ci/setup

demo: setup      ## the main job on three lab hosts, start to finish
	@.ci/demo

demo-agents: setup  ## three agents and a person change one fleet, on two lab hosts
	@.ci/demo-agents

# Files go to three workers, the longest first (tests/conftest.py): most of the time is waiting for hosts, and the hosts of
# a file are its own.
test: lint       ## everything: types, style, unit tests, and the tests on real hosts
	FLEET_LAB_NAMESPACES=1 .venv/bin/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

unit: setup      ## the tests without lab hosts
	.venv/bin/python -m pytest tests/unit tests/ssh tests/contract

# To count lines costs unit tests as much again as they take, so `make test` does not.
coverage: setup  ## which lines of fleet/ the tests without lab hosts run
	.venv/bin/python -m pytest tests/unit tests/ssh tests/contract --cov --cov-report=term

faults: setup    ## every fault in every phase, and the long tests, on lab hosts
	FLEET_LONG=all .venv/bin/python -m pytest tests/faults
	FLEET_LONG=all .venv/bin/python -m pytest -m long tests/containers tests/workers

reboots: setup   ## every fault around a reboot, on a virtual machine
	FLEET_LONG=all .venv/bin/python -m pytest tests/reboots

chaos: setup     ## N random rounds on lab hosts; SEED shows the same ones again
	@.venv/bin/python -m tests.faults.chaos $(if $(N),--rounds $(N)) $(if $(SEED),--seed $(SEED))

fuzz: setup      ## N rounds of each kind with a host that says anything; SEED shows the same ones again
	@.venv/bin/python -m tests.hostile $(if $(N),--rounds $(N)) $(if $(SEED),--seed $(SEED))

model: setup     ## the switch, the boot on trial, turns and provers as models, checked in full by Spin
	@tests/model/check

nixos:           ## the checks of flake.nix, on virtual machines with real NixOS; needs nixpkgs and KVM
	@.ci/nixos

lint: setup      ## style and types of Python and shell
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.ci/shellcheck

bench: setup     ## how long things take, beside OpenSSH with nix copy; CASES="cold update" chooses
	@.ci/bench $(CASES)

docs: setup      ## the documentation as a static site with a search, in .site/site
	@.ci/docs

clean:           ## remove the virtual environment, the demo's lab and caches
	-@.venv/bin/fleet lab down --dir .demo 2>/dev/null
	-@.venv/bin/fleet lab down --dir .demo-agents/lab 2>/dev/null
	rm -rf .venv .demo .demo-agents .site .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage
