# Only set-up needs make; every later command is a plain `sappers-deploy …`.

VENV := .venv/bin
DEPLOY := $(VENV)/sappers-deploy

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
.PHONY: help setup lab lab-down test lint unit simulation soak integration e2e bench bench-scale bench-images bench-guests bench-healing bench-consensus bench-provisioner sameness chaos clean

help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' Makefile

setup: ## Install what is missing: Debian packages, .venv, /usr/local/bin/sappers-deploy
	@tools/setup

lab: setup ## The main job: three throw-away hosts become a cluster and run a micro-VM
	$(DEPLOY) lab up
	$(DEPLOY) image build hello
	$(DEPLOY) bootstrap inventory/lab.ini
	$(DEPLOY) run hello --image hello --port 8080
	$(DEPLOY) status
	@printf '%s\n' '' 'Three hosts govern themselves and run a micro-VM. Try next:' \
	    '  sappers-deploy ps                      where the guest runs' \
	    '  sappers-deploy logs hello              what it prints' \
	    '  sappers-deploy status --watch          then, in another terminal:' \
	    '  sappers-deploy lab ssh lab1            log in to a host; `poweroff -f` it and watch' \
	    '  sappers-deploy lab up                  bring it back' \
	    '  make lab-down                          remove it all'

lab-down: ## Remove the lab: hosts, bridge, files
	$(DEPLOY) lab down

# Tests use this tree's own .venv: a checkout that is only tested does not become the command.
test: ## Everything that CI runs
	@tools/setup --no-links
	@$(MAKE) --no-print-directory lint simulation
	@$(MAKE) --no-print-directory --jobs 2 NAMED=1 e2e unit integration

# Of targets that run side by side each line says whose it is.
OUT = $(if $(NAMED),2>&1 | sed --unbuffered 's/^/$@: /')

lint:
	$(VENV)/ruff format --check .
	$(VENV)/ruff check .
	$(VENV)/mypy
	$(VENV)/lint-imports

# Real processes share a busy machine: what failed is run once more by itself, with both runs in the log.
PYTEST = $(VENV)/pytest -o cache_dir=.pytest_cache/$@ tests/$@
TWICE = { $(PYTEST) || $(PYTEST) --last-failed --last-failed-no-failures none; } $(OUT)

unit:
	$(TWICE)

integration:
	$(TWICE)

simulation: ## A thousand simulated clusters that fail in every way, from a thousand seeds
	$(VENV)/pytest tests/simulation
	$(VENV)/python -m tests.simulation --seeds 1000

soak: ## The same with new seeds, for hours: make soak HOURS=8
	$(VENV)/python -m tests.simulation --soak $(or $(HOURS),8)

e2e:
	$(TWICE)

bench: setup ## Measure what is promised, on a lab of its own; writes docs/benchmarks.md
	$(VENV)/python -m benchmarks --markdown docs/benchmarks.md

bench-images: setup ## Measure how images travel, beside scp; writes docs/benchmarks.md
	$(VENV)/python -m benchmarks.images --markdown docs/benchmarks.md

bench-guests: setup ## Measure how guests start, beside bare QEMU; writes docs/benchmarks.md
	$(VENV)/python -m benchmarks.guests --markdown docs/benchmarks.md

bench-healing: setup ## Measure what comes back after it died; writes docs/benchmarks.md
	$(VENV)/python -m benchmarks.healing --markdown docs/benchmarks.md

bench-consensus: setup ## Measure consensus and gossip beside etcd and Serf; writes docs/benchmarks.md
	$(VENV)/python -m benchmarks.consensus --markdown docs/benchmarks.md

bench-provisioner: setup ## Measure playbooks beside Ansible, Mitogen and pyinfra; writes docs/benchmarks.md
	$(VENV)/python -m benchmarks.provisioner --markdown docs/benchmarks.md --plot docs/provisioner.svg

sameness: setup ## Run the corpus of playbooks by Ansible and by us, on two hosts, and compare them
	$(VENV)/python -m tests.sameness

chaos: setup ## Torment five hosts for 30 minutes, with clients that check every answer
	$(VENV)/python -m tests.chaos

bench-scale: setup ## Measure how costs grow with the cluster, on paper; writes docs/benchmarks.md
	$(VENV)/python -m benchmarks.scale --markdown docs/benchmarks.md --plot docs/scale.svg

# The machine's cache stays: hosts of running labs lie on its base root.
clean: ## Remove what was built in this tree (labs, clusters and images stay)
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
