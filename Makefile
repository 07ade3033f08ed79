# `make help` lists the targets.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --max-worker-restart=0
CPU_INDEX := https://download.pytorch.org/whl/cpu
TEST_WORKERS ?= auto
KERNELS ?= here# build the kernels for this machine's processor only; or: all
MIN_COVERAGE := 97
FUZZ_SECONDS := 600
# Isolated builds obey the first of these in old versions of pip, and the second in new ones.
PINNED_BUILD := PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt

.PHONY: help run test fast test-core fuzz cov sanitize check fmt weights schemas clean
.NOTPARALLEL:

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

run: .venv/train.done .venv/kernels-$(KERNELS).built ## Install into .venv, train a classifier, print its accuracy and report
	$(BIN)/convscope train

test: .venv/dev.done .venv/kernels-$(KERNELS).built ## Run every test but those of test-core
	$(PYTEST) $(if $(COV),--cov --cov-report=term:skip-covered --cov-fail-under=$(MIN_COVERAGE))

fast: .venv/dev.done .venv/kernels-$(KERNELS).built ## Run the tests that are not slow, in about three minutes on 2 cores
	$(PYTEST) -m 'not slow'

# Each round of 2,000 inputs has a seed of its own; a failure prints the input, as small as it gets.
fuzz: .venv/dev.done .venv/kernels-$(KERNELS).built ## Try damaged files and odd command lines for FUZZ_SECONDS (600)
	end=$$(($$(date +%s) + $(FUZZ_SECONDS))); while [ $$(date +%s) -lt $$end ]; do \
		CONVSCOPE_FUZZ=1 $(PYTEST) -q --dist load tests/fuzz --hypothesis-seed=$$(od -An -N4 -tu4 /dev/urandom | tr -d ' ') || exit 1; done

cov: ## Run every test and measure coverage; fail below MIN_COVERAGE
	$(MAKE) test COV=1

# Builds the wheel and tests it where nothing but its dependencies is installed.
test-core: .venv/dev.done ## Test the wheel without the training extra, in .venv-core
	rm -rf build/bdist* build/lib build/wheel
	$(BIN)/python tests/core/prepare.py build/core
	$(PINNED_BUILD) $(PIP) wheel --no-deps -w build/wheel .
	$(PYTHON) -m venv --clear .venv-core
	.venv-core/bin/python -m pip --disable-pip-version-check -q install -c constraints.txt build/wheel/*.whl pytest
	CONVSCOPE_CORE_FOLDER=$(CURDIR)/build/core .venv-core/bin/python -m pytest -q -c tests/core/pytest.ini tests/core

# The interpreter itself has no sanitizers, so their libraries are preloaded; it never frees everything at exit.
sanitize: .venv/dev.done ## Test the kernels with GCC's address and undefined-behavior sanitizers
	CXX=g++ $(PINNED_BUILD) $(PIP) install ./native --no-deps --upgrade --target build/sanitize \
		--config-settings=build-dir=build/sanitize --config-settings=cmake.define.CONVSCOPE_SANITIZE=ON \
		--config-settings=cmake.define.CONVSCOPE_HERE=ON
	PYTHONPATH=$(CURDIR)/build/sanitize ASAN_OPTIONS=detect_leaks=0 \
		LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libubsan.so)" \
		$(PYTEST) native/tests tests/backends/native

check: .venv/dev.done ## Check formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

fmt: .venv/dev.done ## Format the code and fix what lint can fix
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

# Needs the pip package with the published weights, which `make test` installs; weights are not in the repository.
weights: .venv/dev.done ## Build the distribution convscope-weights-efficientnet-lite0 in build/weights
	$(BIN)/python dev/write_weights.py weights
	$(PINNED_BUILD) $(PIP) wheel --no-deps -w build/weights ./weights

schemas: .venv/dev.done ## Write the JSON Schemas in docs/schemas
	$(BIN)/python dev/write_schemas.py

clean: ## Remove everything that the other targets made, except runs
	rm -rf .venv .venv-core build dist native/build weights/build weights/*/*.safetensors .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info

$(BIN)/python:
	$(PYTHON) -m venv .venv

# PyTorch's own index has a CPU build without gigabytes of GPU packages; pip may use it if it answers within 3 seconds.
.venv/%.done: pyproject.toml constraints.txt | $(BIN)/python
	extra=$$(curl -m 3 -sf -o /dev/null $(CPU_INDEX)/torch/ && echo --extra-index-url $(CPU_INDEX) || true); \
	$(PIP) install $$extra -c constraints.txt -e '.[train$(if $(filter dev,$*),$(comma)pretrained$(comma)serve$(comma)cluster$(comma)mlflow$(comma)dev)]'
	touch $@

# The kernels, from source. If the build fails, convscope runs without them, and the next make tries again.
# --config-settings in full: pip 23.0, as in Debian 12, does not know -C.
.venv/kernels-%.built: constraints.txt native/CMakeLists.txt native/pyproject.toml $(wildcard native/src/*) \
		$(wildcard native/convscope_native/*.py*) | $(BIN)/python
	@rm -f .venv/kernels-*.built
	@echo 'building the fast kernels ...'
	@$(PINNED_BUILD) $(PIP) install ./native --force-reinstall --no-deps \
		--config-settings=cmake.define.CONVSCOPE_HERE=$(if $(filter here,$*),ON,OFF) \
		>.venv/kernels.log 2>&1 && touch $@ || { \
		echo 'The fast kernels could not be built, so convscope runs without them, slower. .venv/kernels.log ends with:'; \
		sed '/^[[:space:]]*$$/d' .venv/kernels.log | tail -n 1; \
		command -v $${CXX:-c++} >/dev/null || echo 'There is no C++ compiler: install g++ or clang, and run make again.'; \
		$(PIP) uninstall -y convscope-native >>.venv/kernels.log 2>&1 || true; }

comma := ,
