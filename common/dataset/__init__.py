"""From labels to batches: everything between a folder of strips and the network's input.

images            the image files that a folder, a file or a pattern names
neighbours        which hashes lie near one another
near_duplicates   which images show the same piece of steel, also mirrored, turned or moved
stratify          groups dealt out so that each part has its share of every class
splits            who trains, validates, tests: split.csv
store             every image decoded once, at one size, memory-mapped
rows              the store's arrays, a checksum a row
shelf             which stores there are, and which are of no use any more
ancestry          what earlier weights have seen: seen.csv
prepare           labels -> split -> store: a data set made ready for one run
augment           mirrored, shifted, brighter: a batch at a time, on the device
sampling          how often an epoch draws each image
crops             where crops of a strip lie
stream            results of threads in order, a few ahead
loader            batches, each a function of (seed, epoch, step)
drift             whether new images still look like those trained on
"""
