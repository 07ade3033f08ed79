# make run    installs into .venv, trains a classifier, prints its accuracy and the path of its report
# make test   runs every test
# make check  formatting, lint and types
# make clean  removes what the others made, but not your runs

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
CPU_INDEX := https://download.pytorch.org/whl/cpu
TEST_WORKERS ?= auto

.PHONY: run test check clean

run: .venv/train.done
	$(BIN)/convscope train

test: .venv/dev.done
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile

check: .venv/dev.done
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info

# PyTorch's own index has a CPU build without gigabytes of GPU packages; it is offered where it answers in 3 seconds.
.venv/%.done: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	extra=$$(curl -m 3 -sf -o /dev/null $(CPU_INDEX)/torch/ && echo --extra-index-url $(CPU_INDEX) || true); \
	$(BIN)/python -m pip install -q --disable-pip-version-check $$extra -c constraints.txt \
		-e '.[train$(if $(filter dev,$*),$(comma)dev)]'
	touch $@

comma := ,
