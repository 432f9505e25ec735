# Set-up and work, each target in one line: make
SHELL := /bin/bash
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/gilprobe
PYTHON ?= python3
VENV := .venv/bin
GPU_PYTHON ?= $(if $(wildcard $(VENV)/python),$(VENV)/python,$(PYTHON))
NATIVE := gilprobe/native/libgilprobe.so
NATIVE_SOURCES := $(wildcard gilprobe/native/*.c gilprobe/native/*.h)
TYPESCRIPT := typescript-5.9.3
TSC := $(CACHE)/$(TYPESCRIPT)/node_modules/typescript/bin/tsc
T = $(shell cat .venv-t/interpreter 2>/dev/null)

.PHONY: help setup native demo test lint bench page accuracy cpython stress loader-environments study gpu-carry gpu-study gpu-merge clean
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

lint: .venv/ready ## ruff, mypy --strict, import-linter, tsc, clang-format
	@$(VENV)/ruff check -q gilprobe tools tests reports stress
	@$(VENV)/ruff format -q --check gilprobe tools tests reports stress
	@$(VENV)/mypy --no-error-summary
	@out=$$($(VENV)/lint-imports 2>&1) || { echo "$$out"; exit 1; }
	@if command -v npm > /dev/null; then \
	    [ -e $(TSC) ] || npm install --silent --no-fund --prefix $(CACHE)/$(TYPESCRIPT) $(subst -,@,$(TYPESCRIPT)) > /dev/null 2>&1; \
	    if [ -e $(TSC) ]; then node $(TSC) --allowJs --checkJs --noEmit --strict --target es2022 --module es2022 \
	        --moduleResolution bundler --lib es2023,dom,dom.iterable gilprobe/render/web/*.js; \
	    else echo "NO TYPESCRIPT: npm does not give it, the page's modules are not checked"; fi; \
	else echo "NO NODE: the page's modules are not checked"; fi
	@$(VENV)/clang-format --dry-run -Werror gilprobe/native/*.c gilprobe/native/*.h tests/native/*.c \
	    stress/native/*.c
	@echo "lint: clean"

test: setup lint ## everything that must hold
	@$(VENV)/python -m pytest -q

bench: setup ## what recording costs, into reports/overhead
	@$(VENV)/python -m reports.overhead

page: setup ## how fast the report page is made, opened and zoomed, into reports/page
	@$(VENV)/python -m reports.page

accuracy: setup ## how right it is, into reports/accuracy
	@$(VENV)/python -m reports.accuracy

cpython: setup ## CPython's own tests with and without gilprobe, into reports/cpython (an hour or more)
	@$(VENV)/python -m reports.cpython

gpu-carry: setup ## what the GPU study needs on a bare machine, into build/gpu-carry
	@$(VENV)/python -m reports.gpu_study.carry

gpu-study: ## the decode study on this machine's NVIDIA GPU, into reports/gpu-nvimagecodec
	@$(GPU_PYTHON) -m reports.gpu_study $(if $(CALL),--call $(CALL)) $(if $(OUT),--out $(OUT))

gpu-merge: setup ## how long merging 10^6 kernels of 16 processes takes
	@$(VENV)/python -m reports.gpu_study.merge

stress: setup ## the stress suite, into reports/stress
	@$(VENV)/python -m stress

loader-environments: ## torch, nvImageCodec and matplotlib for the loader's studies, kept in the cache (several GB)
	@[ -x $(CACHE)/loader/bin/python ] || $(PYTHON) -m venv $(CACHE)/loader
	@$(PYTHON) tools/requirements.py studies > $(CACHE)/loader/requirements.txt
	@$(CACHE)/loader/bin/python -m pip install -q --disable-pip-version-check -r $(CACHE)/loader/requirements.txt torch==2.13.0
	@$(PYTHON) tools/interpreters.py free-threaded --make $(CACHE)/loader-t --requirements tools/loader.txt
	@$(CACHE)/loader-t/bin/python -m pip install -q --disable-pip-version-check --only-binary=:all: torch==2.12.0

study: setup loader-environments ## the loader's study, into reports/pillow-vs-nvimagecodec
	@PYTHONPATH=$(CURDIR) $(CACHE)/loader/bin/python -m gilprobe study --python $(CACHE)/loader/bin/python --python $(CACHE)/loader-t/bin/python

clean: ## what was built here; the cached interpreter stays
	@rm -rf .venv .venv-t build dist $(NATIVE) .pytest_cache .mypy_cache .ruff_cache .hypothesis
