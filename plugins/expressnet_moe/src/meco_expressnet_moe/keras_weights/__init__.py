"""From a Keras 2 file of the authors' network to our config and state dict.

In the order of the data: `hdf5` reads the file into `units`; `mapping` finds the network's parts among them, `experts` the
dense ones; `translation` makes ours of them. `conversion.py`, outside, is the door.
"""
