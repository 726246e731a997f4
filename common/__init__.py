"""The commands, and the ground that every room stands on.

Commands: compare, reference, summary; predict, alarms, export.

The ground, in reading order:

    errors, files, cli              problems said in words, files published whole, options
    machine, locks, progress        what a process has, what it shares, what it shows
    rle, tables, labels             masks, and what is in a data set
    resize, overlay                 pictures at a network's size; masks drawn into pictures
    config                          the options that every training shares
    devices, distributed            what computes, alone or together
    losses, metrics                 what a training minimises, and what it is judged by
    blocks, unet                    networks
    checkpoint, runs, inference     a run directory turned back into a network
    thresholds                      the decision: which pixels and areas are reported
    tracking                        wandb, which can never stop a training

Rooms: `dataset` -> `training` -> `comparison`, `deployment`.
"""
