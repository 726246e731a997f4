"""From a run directory to the line: networks exported, checked, and applied to new strips.

trained      a run applied to images in memory: `load_run`
submission   masks as Kaggle's table
findings     what was found in a stream of images, by class
predict      the work of `common.predict`, made of these
deploy       a network with everything around it, as one ONNX graph
agreement    whether an exported file's masks are PyTorch's
quantise     the same in 8 bits
export       the work of `common.export`, made of these
"""
