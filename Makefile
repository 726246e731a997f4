# Two commands on a fresh machine: `make demo` and `make test`. Both build .venv first.
PYTHON ?= python3
BIN := .venv/bin
DEMO := runs/demo/unet_64x400 runs/demo/unet_128x800 runs/demo/modified_unet
# So few steps take a higher learning rate, but for the U-Net at 128x800, which it keeps from class 4.
DEMO_OPTIONS := --data data/demo --resume auto --wandb offline --wandb-group demo --batch-size 8

.PHONY: demo test lint clean

demo: .venv/.installed
	$(BIN)/python -m data.synthetic --out data/demo --images 1280 --seed 0
	$(BIN)/python unet_64x400/train.py $(DEMO_OPTIONS) --out runs/demo/unet_64x400 --base-channels 16 --epochs 2 --lr 0.006
	$(BIN)/python unet_128x800/train.py $(DEMO_OPTIONS) --out runs/demo/unet_128x800 --base-channels 8 --epochs 2
	$(BIN)/python modified_unet/train.py $(DEMO_OPTIONS) --out runs/demo/modified_unet --size 128x800 --epochs 4 --lr 0.006
	$(BIN)/python -m common.compare $(DEMO) --out report --repeats 5 --wandb offline
	$(BIN)/python -m common.summary $(DEMO)
	@echo "report: $(CURDIR)/report/index.html"

test: .venv/.installed-test
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: .venv/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

clean:
	rm -rf .venv runs report data/demo data/synthetic data/.store

.venv/.installed: requirements.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --requirement requirements.txt --editable .
	touch $@

.venv/.installed-test: .venv/.installed
	$(BIN)/pip install --quiet --editable ".[test]"
	touch $@
