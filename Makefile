# Set-up and work, each target in one line: make
SHELL := /bin/bash
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/gilprobe
PYTHON ?= python3
VENV := .venv/bin
NATIVE := gilprobe/native/libgilprobe.so
NATIVE_SOURCES := $(wildcard gilprobe/native/*.c gilprobe/native/*.h)
T = $(shell cat .venv-t/interpreter 2>/dev/null)

.PHONY: help setup native demo test lint bench accuracy stress study clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

setup: .venv/ready .venv-t/ready native ## both environments: .venv (this Python), .venv-t (free-threaded)

native: $(NATIVE) ## the recorder's library

$(NATIVE): $(NATIVE_SOURCES)
	@echo "building the recorder's library"
	@gcc -std=gnu11 -O2 -g -fPIC -shared -fexceptions -fvisibility=hidden -Wall -Wextra -Werror -Wl,-Bsymbolic \
	    -o $@.new gilprobe/native/*.c -ldl -lpthread && mv $@.new $@

.venv/ready: pyproject.toml
	@echo "setting up .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv
	@$(VENV)/python tools/requirements.py dev explore > .venv/requirements.txt
	@$(VENV)/python -m pip install -q --disable-pip-version-check -r .venv/requirements.txt
	@$(VENV)/python -m pip install -q --disable-pip-version-check torch==2.13.0 || \
	    echo "NO TORCH: the tests of gilprobe.loader will be skipped"
	@pwd > "$$($(VENV)/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')/gilprobe.pth"
	@printf '#!%s\nfrom gilprobe.cli import main\nmain()\n' "$(CURDIR)/.venv/bin/python" > $(VENV)/gilprobe
	@chmod +x $(VENV)/gilprobe
	@touch $@

.venv-t/ready: tools/interpreters.py tools/free_threaded.txt
	@$(PYTHON) tools/interpreters.py free-threaded --make .venv-t --requirements tools/free_threaded.txt
	@[ -e .venv-t/missing ] || touch $@ # what is missing is sought, and said, every time

demo: setup ## profile the thumbnail service on both builds
	@mkdir -p build
	@$(VENV)/python -m reports.demo.pictures
	@for python in $(VENV)/python $$([ -x .venv-t/bin/python ] && echo .venv-t/bin/python); do \
	    echo; echo "== $$($$python -VV)"; \
	    $(VENV)/gilprobe profile --force -o build/demo-$$(basename $$(dirname $$(dirname $$python))).gilprobe \
	        --html build/demo-$$(basename $$(dirname $$(dirname $$python))).html --python $$python \
	        reports/demo/thumbnails.py || exit; done

lint: .venv/ready ## ruff, mypy --strict, import-linter, clang-format
	@$(VENV)/ruff check -q gilprobe tools tests reports stress
	@$(VENV)/ruff format -q --check gilprobe tools tests reports stress
	@$(VENV)/mypy --no-error-summary
	@out=$$($(VENV)/lint-imports 2>&1) || { echo "$$out"; exit 1; }
	@$(VENV)/clang-format --dry-run -Werror gilprobe/native/*.c gilprobe/native/*.h tests/native/*.c
	@echo "lint: clean"

test: setup lint ## everything that must hold
	@$(VENV)/python -m pytest -q

bench: setup ## what recording costs, into reports/overhead
	@$(VENV)/python -m reports.overhead

accuracy: setup ## how right it is, into reports/accuracy
	@$(VENV)/python -m reports.accuracy

stress: setup ## the stress suite, into reports/stress
	@$(VENV)/python -m stress

clean: ## what was built here; the cached interpreter stays
	@rm -rf .venv .venv-t build dist $(NATIVE) .pytest_cache .mypy_cache .ruff_cache .hypothesis
