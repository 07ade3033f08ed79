# make run    installs into .venv, trains a classifier, prints its accuracy and the path of its report
# make test   runs every test
# make check  formatting, lint and types
# make clean  removes what the others made, but not your runs

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
CPU_INDEX := https://download.pytorch.org/whl/cpu
TEST_WORKERS ?= auto
KERNELS ?= here# the fast kernels for this machine's processor; or all

.PHONY: run test check clean
.NOTPARALLEL:

run: .venv/train.done .venv/kernels-$(KERNELS).built
	$(BIN)/convscope train

test: .venv/dev.done .venv/kernels-$(KERNELS).built
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile

check: .venv/dev.done
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf .venv build dist native/build .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info

$(BIN)/python:
	$(PYTHON) -m venv .venv

# PyTorch's own index has a CPU build without gigabytes of GPU packages; it is offered where it answers in 3 seconds.
.venv/%.done: pyproject.toml constraints.txt | $(BIN)/python
	extra=$$(curl -m 3 -sf -o /dev/null $(CPU_INDEX)/torch/ && echo --extra-index-url $(CPU_INDEX) || true); \
	$(PIP) install $$extra -c constraints.txt -e '.[train$(if $(filter dev,$*),$(comma)dev)]'
	touch $@

# The fast kernels, from source. Where that fails everything runs without them, and the next make tries again.
.venv/kernels-%.built: constraints.txt native/CMakeLists.txt native/pyproject.toml $(wildcard native/src/*) \
		$(wildcard native/convscope_native/*.py*) | $(BIN)/python
	@rm -f .venv/kernels-*.built
	@echo 'building the fast kernels ...'
	@PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt $(PIP) install ./native \
		-C cmake.define.CONVSCOPE_HERE=$(if $(filter here,$*),ON,OFF) --force-reinstall --no-deps \
		>.venv/kernels.log 2>&1 && touch $@ || { $(PIP) uninstall -y convscope-native >>.venv/kernels.log 2>&1; echo \
		'The fast kernels could not be built: going on without them, slower. They need a C++ compiler; see .venv/kernels.log'; }

comma := ,
