# One word a chore. Each makes .venv and installs into it by itself.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint bench table policies evaluate docs clean

demo: export CADMUS_GYM_AGAIN := make demo

demo: .venv/installed-rl  ## pretrain, evaluate, fine-tune with PPO, print the table: about twenty minutes on two cores
	$(BIN)/python pretrain/train.py --recipe nano-arith --tokens 9000000 --folder runs/nano --resume
	$(BIN)/python pretrain/train.py --recipe nano-arith --tokens 9000000 --folder runs/half --stop-at-truth 0.5 --evaluate-every 50 --evaluate-count 200 --resume
	$(BIN)/python agents/ppo.py --env Cadmus-Arith-v0 --checkpoint runs/half/model --folder runs/ppo --resume
	$(BIN)/python benchmarks/table.py --model pretrained=runs/nano/model --model "stopped halfway=runs/half/model" --model "PPO from there=runs/ppo/model" --output runs/table.json

test: lint  ## lint, formatting, types and all tests
	$(BIN)/python -m pytest

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/installed-dev  ## how fast the package is; writes speed.json and transformer*.json of benchmarks/results
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/transformer.py --repeats 9
	$(BIN)/python benchmarks/transformer.py --sections completion --repeats 5 --env Cadmus-Loop-v0 --checkpoint cadmus_gym/_models/nano --output benchmarks/results/transformer-loop.json

table: .venv/installed-rl  ## the README's table, from the models `make demo` made
	$(BIN)/python benchmarks/table.py --model pretrained=runs/nano/model --model "stopped halfway=runs/half/model" --model "PPO from there=runs/ppo/model" --count 10000 --readme

policies: .venv/installed-rl  ## what can be had without solving a problem; writes benchmarks/results/policies.md
	$(BIN)/python benchmarks/policies.py

evaluate: .venv/installed-dev  ## the figures, pages and pictures of the models in the package
	$(BIN)/python benchmarks/evaluate.py

docs: .venv/installed-dev  ## write again what is generated: the table of instructions, the cards of environments
	$(BIN)/python -m cadmus_gym instructions --write cadmus_gym/LANGUAGE.md
	$(BIN)/python -m cadmus_gym cards --write

clean:
	rm -rf .venv runs .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/installed-%: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$*]"
	touch $@
