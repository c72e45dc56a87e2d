# Every target sets the checkout up first; that takes minutes once, and a second afterwards.
.PHONY: demo test slow fuzz check schema setup clean
PYTHON_RUN := .venv/bin/python -m

demo: setup  ## label silicon, train SchNet, export, and run it in ASE and LAMMPS
	.venv/bin/python examples/silicon/demo.py

test: setup  ## unit and integration tests, in two processes of one thread each
	OMP_NUM_THREADS=1 $(PYTHON_RUN) pytest -n 2 --dist loadfile

slow: setup  ## the tests that take minutes each
	$(PYTHON_RUN) pytest -m slow

fuzz: setup  ## the tests of drawn examples, with examples not drawn before
	OMP_NUM_THREADS=1 $(PYTHON_RUN) pytest -n 2 --dist loadfile -m "hypothesis and not slow" --hypothesis-profile=fuzz

check: setup  ## style, types, and who imports whom
	$(PYTHON_RUN) ruff check .
	$(PYTHON_RUN) ruff format --check .
	$(PYTHON_RUN) mypy
	.venv/bin/lint-imports --no-cache

schema: setup  ## write manifests/schema.json again
	$(PYTHON_RUN) kimgnn.manifest.schema_json manifests/schema.json

setup:
	@bash tools/setup.sh

clean:  ## remove what is built, keep results
	rm -rf .venv .setup build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
