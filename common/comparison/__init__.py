"""From run directories to a report: several runs scored on the same images, with intervals.

entrants      the runs compared, and the test images that all of them share
rivals        predictions that others made, beside them
outcomes      what every decision on a grid would score on an image
choose        which of them to take, by what val says
false_alarms  a decision for a rate of false alarms
tune          a run's decision: found in its directory, or chosen on val
contestants   a network with its decision, or such predictions: who makes label maps
evaluate      every test image through each of them, at its own size
tally         counts kept of an image, in place of its pixels
scorecard     figures from counts
bootstrap     intervals over groups of images and over seeds
timing        latency, throughput, memory, in a process of its own
results       one row a variant, and the differences between them
glossary      what each figure means
report        results.csv, results.json, results.md
plots         charts as files
showcase      which strips the gallery shows
page          the report page
tracking      the comparison as a wandb run
compare       all of that, in this order
reference     the same predictions, scored the 2020 reference's way
"""
