# Everything runs in environments of the project's own (.venv and its kin), made on first use from Python 3.11 or later.
# Another interpreter: make test PYTHON=python3.13     Arguments for pytest: make test ARGS='-k softmax -x'

CANDIDATES := python3 python3.13 python3.12 python3.11 python3.14 python
PYTHON ?= $(shell for p in $(CANDIDATES); do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
PYTHON := $(PYTHON)
ARGS ?=
TORCH ?=
WORKERS ?= auto

VENV := .venv
BIN := $(VENV)/bin
PIP := -m pip --disable-pip-version-check install --quiet
CODE := $(wildcard symgraph kernels tests benchmarks docs/screenshots.py notebooks/run.py .ci/lowest.py)
DOCS := $(wildcard README.md docs/*.md)
SIMULATOR := NUMBA_ENABLE_CUDASIM=1 $(BIN)/python -m pytest tests/cuda/simulator

# An environment belongs to one interpreter; asking for another one makes it anew.
WANTED := $(if $(PYTHON),$(shell $(PYTHON) -c 'import sys; print(sys.version.split()[0], sys.base_prefix)' 2>/dev/null))
define outdated
$(if $(filter-out x$(WANTED),x$(shell cat $(1)/interpreter 2>/dev/null)),always)
endef

.PHONY: help demo test test-cudasim test-gpu cuda-table check-cuda test-browser test-jax check format golden lowest bench bench-gpu notebooks check-notebooks screenshots docs build clean always
.NOTPARALLEL:
.DEFAULT_GOAL := help

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/demo ## Train a network on handwritten digits, then fit by Newton-CG: the main job from end to end
	$(BIN)/symgraph demo $(ARGS)

test: $(VENV)/test ## Run the whole test suite
	$(BIN)/python -m pytest -n $(WORKERS) --ignore=tests/browser $(ARGS)
	$(SIMULATOR) -n $(WORKERS) $(ARGS) || test $$? -eq 5

test-cudasim: $(VENV)/test ## Run the tests of target cuda on Numba's simulator, in a process of their own
	$(SIMULATOR) -n $(WORKERS) $(ARGS)

# cuBLAS is 700 MB: whether there is a GPU is asked before it is fetched.
test-gpu: $(VENV)/test ## Run the tests of target cuda on a real NVIDIA GPU, with cuBLAS too
	@$(BIN)/symgraph device
	@$(BIN)/python $(PIP) --editable '.[test,cublas]'
	@$(BIN)/symgraph device
	SYMGRAPH_TEST_GPU=1 $(BIN)/python -m pytest tests/cuda/simulator $(ARGS)

cuda-table: $(VENV)/test ## Compile every kernel for every compute capability, without a GPU, and write docs/cuda.md
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.cuda_page

check-cuda: $(VENV)/test ## Compile every kernel for every compute capability, without a GPU: none may spill registers
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.cuda_page --check

test-browser: $(VENV)/browser ## Drive the viewer and JupyterLab in Chromium; screenshots go to build/screenshots
	@.ci/chromium
	$(BIN)/python -m pytest tests/browser $(ARGS)

test-jax: .venv-bench/bench ## Compare 1,000 programs of nested transformations with JAX (some 20 minutes on one core)
	.venv-bench/bin/python -m pytest tests/autodiff/test_against_jax.py $(ARGS)

check: $(VENV)/dev ## Check format, lint, types (strict, tests too) and the examples in docstrings
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(CODE)
	$(BIN)/python -m pytest -q -p tests.conftest --doctest-modules --doctest-glob='*.md' symgraph kernels/symgraph_kernels $(DOCS)

format: $(VENV)/dev ## Format the code and apply the lint fixes that are safe
	$(BIN)/ruff check --fix --exit-zero .
	$(BIN)/ruff format .

golden: $(VENV)/test ## Rewrite the golden files from what the compiler prints now
	$(BIN)/python -m pytest -m golden --update-golden $(ARGS)

lowest: .venv-lowest/test ## Run the suite with the lowest dependency versions that are admitted (Python 3.11)
	.venv-lowest/bin/python -m pytest -n $(WORKERS) $(ARGS)

bench: .venv-bench/bench$(if $(TORCH),-torch) ## Measure against peers (TORCH=1: PyTorch too, several GB)
	.venv-bench/bin/python -m benchmarks $(ARGS)

bench-gpu: .venv-bench/bench-gpu ## Measure on a real NVIDIA GPU against JAX, torch.compile and CuPy (several GB)
	@.venv-bench/bin/symgraph device
	.venv-bench/bin/python -m benchmarks.gpu $(ARGS)

notebooks: $(VENV)/notebooks ## Run the notebooks in place, one after the other
	$(BIN)/python notebooks/run.py --inplace --jobs 1 $(ARGS)

check-notebooks: $(VENV)/notebooks ## See that every notebook runs, without a warning; none is changed
	$(BIN)/python notebooks/run.py $(ARGS)

screenshots: test-browser ## Make the pictures of the README anew, from the browser tests and the viewer
	$(BIN)/python docs/screenshots.py

docs: $(VENV)/docs ## Build the site into docs/_build/html: the guide, the reference, the gallery
	@rm -rf docs/_build
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --conf-dir docs \
		--doctree-dir docs/_build/doctrees . docs/_build/html
	@echo 'The site begins at docs/_build/html/index.html'

build: $(VENV)/test ## Build the wheel and the source distribution into dist/
	$(BIN)/python -m build --no-isolation --outdir dist

clean: ## Remove the environments and everything that tools left behind
	rm -rf .venv .venv-* build dist docs/_build .mypy_cache .pytest_cache .ruff_cache .hypothesis htmlcov .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Environments. Each stamp is made from pyproject.toml; a change there installs again, which is quick when little changed.

.SECONDEXPANSION:
%/interpreter: $$(call outdated,$$*)
	@test -n '$(WANTED)' || { echo 'symgraph needs Python 3.11 or later, and $(if $(PYTHON),$(PYTHON) does not run,none was found);' \
		'name one: make PYTHON=/path/to/python' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'symgraph needs Python 3.11 or later; $(PYTHON) is $(WANTED)' >&2; exit 1; }
	@echo 'Making $* with Python $(WANTED)'
	@rm -rf $*
	@$(PYTHON) -m venv $*
	@echo '$(WANTED)' > $@

$(VENV)/demo $(VENV)/test $(VENV)/dev $(VENV)/docs $(VENV)/notebooks $(VENV)/browser: $(VENV)/interpreter pyproject.toml
	@echo 'Installing symgraph[$(@F)] into $(VENV)'
	@$(BIN)/python $(PIP) --editable '.[$(@F)]'
	@touch $(if $(filter-out docs,$(@F)),$(VENV)/demo) $(if $(filter dev browser,$(@F)),$(VENV)/test) $@

.venv-lowest/test: .venv-lowest/interpreter pyproject.toml .ci/lowest.py
	@.venv-lowest/bin/python .ci/lowest.py > .venv-lowest/constraints.txt
	@cat .venv-lowest/constraints.txt
	@.venv-lowest/bin/python $(PIP) --prefer-binary --constraint .venv-lowest/constraints.txt --editable '.[test]'
	@touch $@

.venv-bench/bench: .venv-bench/interpreter pyproject.toml
	@.venv-bench/bin/python $(PIP) --editable '.[bench]'
	@touch $@

.venv-bench/bench-torch: .venv-bench/bench
	@.venv-bench/bin/python $(PIP) --editable '.[bench,bench-torch]'
	@touch $@

# The peers' builds for GPUs are several GB: whether there is a GPU is asked before they are fetched.
.venv-bench/bench-gpu: .venv-bench/bench
	@.venv-bench/bin/symgraph device
	@.venv-bench/bin/python $(PIP) --editable '.[bench,bench-gpu]'
	@touch $@
