"""From a run directory to the line: networks exported, checked, and applied to new strips.

deploy       a network with everything around it, as one ONNX graph
quantise     the same in 8 bits
agreement    whether an exported file's masks are PyTorch's
submission   masks as Kaggle's table
findings     what was found in a stream of images, by class
"""
