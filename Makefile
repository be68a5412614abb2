# `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup test faults demo bench soak doctor lock clean

TASK ?= pick_fruit
ENVIRONMENT ?= in_domain
SEED ?= 0
HOURS ?= 1
RUN := source ./setup.bash &&

help:    ## list the targets
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup:   ## environment, workspace, robot models; seconds when nothing changed
	@scripts/setup.sh

test: setup  ## lint, types, all tests; PYTEST_ARGS="src/harmowam_core -k codec" for some
	@scripts/test.sh $(PYTEST_ARGS)

faults: setup ## the fault catalogue over DDS, on a machine without other work
	@scripts/test.sh -m faults src/harmowam_bringup

demo: setup  ## the whole graph closed-loop; TASK=pick_fruit ENVIRONMENT=in_domain SEED=0
	@$(RUN) harmowam demo --task $(TASK) --environment $(ENVIRONMENT) --seed $(SEED)

bench: setup  ## the benchmark tables: rates and latencies of the ROS graph, open-loop errors of the models
	@$(RUN) harmowam bench graph && harmowam bench models --episodes 5

soak: setup   ## hours of the graph with random faults; HOURS=1 SEED=0
	@$(RUN) harmowam soak --hours $(HOURS) --seed $(SEED)

doctor:  ## what is missing, and how to get it
	@$(RUN) { command -v harmowam >/dev/null || { echo 'run make setup first; it says what it lacks'; exit 1; }; } && harmowam doctor

lock:    ## write constraints.txt from what .venv holds
	@.venv/bin/python scripts/lock.py > constraints.txt.new && mv constraints.txt.new constraints.txt

clean:   ## remove the built workspace and caches; .venv, data and results stay
	rm -rf build install log .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src -name __pycache__ -type d -prune -exec rm -rf {} +
