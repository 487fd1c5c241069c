# make demo    the worked example and a small network, in its own environment
# make test    everything a change must pass: linter, types, import direction, tests, docs examples
# make lint    the first three of those
# make goldens write the expected texts anew (look at the diff before you commit it)
# make bench   chainrule next to PyTorch and ONNX Runtime; ONLY=lenet for one network
# make clean   remove the environment and the caches
#
# Needs Python 3.10 or newer with venv, and make. Another Python: make test PYTHON=python3.12

PYTHON ?= python3
JOBS   ?= 2
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test lint goldens bench clean
.DELETE_ON_ERROR:

demo: $(VENV)/.demo
	@$(BIN)/python -m chainrule demo

# NumPy's own threads are off: the test processes already fill the cores.
test: lint
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

goldens: $(VENV)/.dev
	UPDATE_GOLDENS=1 $(BIN)/python -m pytest -n $(JOBS) tests

# The peers get an environment of their own. Where "torch" is a build for graphics cards, name
# another: make bench PEERS="torch==2.13.0+cpu onnxruntime onnx" with pip's index set accordingly.
PEERS ?= torch==2.13.0 onnxruntime onnx

bench: .venv-bench/.made
	@.venv-bench/bin/python -m benchmarks $(if $(ONLY),--only $(ONLY)) $(BENCH)

.venv-bench/.made: pyproject.toml
	@echo "installing chainrule, PyTorch and ONNX Runtime into .venv-bench ..."
	@test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	@.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -e . $(PEERS)
	@touch $@

# The stamps say what is installed, so a second run starts at once.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	  found=$$($(PYTHON) --version 2>&1) || found="not there"; \
	  echo "chainrule needs Python 3.10 or newer; '$(PYTHON)' is $$found. Name another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "'$(PYTHON)' has no venv module. Install it (Debian, Ubuntu: apt install python3-venv) or name another Python: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.demo: pyproject.toml $(VENV)/.made
	@echo "installing chainrule into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e . || { \
	  echo "pip could not install chainrule's dependencies (see its message above); is a package index reachable?" >&2; exit 1; }
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.made
	@echo "installing chainrule and its development tools into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' || { \
	  echo "pip could not install chainrule's dependencies (see its message above); is a package index reachable?" >&2; exit 1; }
	@touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) .venv-bench .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
