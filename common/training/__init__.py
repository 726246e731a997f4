"""From batches to a run directory: the loop that all variants share.

loop       prepare -> for every epoch: train, validate, record
folder     which folder a training has, and that no other has it
setup      network, loss, optimiser, run directory: all that stands before the first step
probe      how many epochs fit into a time
state      what a training is made of, and how far it is
step       one step: loss, gradients, update, averaged weights
muon       the optimiser of convolution weights
validation loss and scores on the val part
record     what a run directory holds
console    what a training says
signals    SIGINT and SIGTERM stop a training between two steps
sync_bn    batch statistics over several devices
jobs       several trainings, each a process of its own
averaging  one run of the mean of several runs' weights
memory     kept where it is freed, said in words where there is none left
"""
