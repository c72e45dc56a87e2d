"""Energy, forces and stress of a crystal by an exported model: NumPy, ONNX Runtime and ASE's neighbour list only.

python onnx_without_kimgnn.py model.onnx structure.cif
"""

import sys

import numpy as np
from ase.io import read
from ase.neighborlist import neighbor_list
from onnxruntime import InferenceSession

model, atoms = InferenceSession(sys.argv[1]), read(sys.argv[2])
about = model.get_modelmeta().custom_metadata_map  # cutoff (Å), layers, species, units, …
receiver, sender, image, vectors = neighbor_list("ijSD", atoms, float(about["cutoff"]))  # sorted by the receiver
reverse = np.lexsort((receiver, sender, *-image.T))[np.argsort(np.lexsort((sender, receiver, *image.T)))]
codes = np.array([about["species"].split().index(symbol) for symbol in atoms.symbols])
nodes, edges = (np.full(int(about["layers"]), count) for count in (len(atoms), len(sender)))  # each layer: all
inputs = [codes, np.array([sender, receiver]), -vectors, nodes, edges, reverse]  # edge vectors end at the receiver
energies, gradient = model.run(None, {node.name: array for node, array in zip(model.get_inputs(), inputs, strict=True)})
forces = [np.bincount(sender, g, len(atoms)) - np.bincount(receiver, g, len(atoms)) for g in gradient.T]
print(energies.sum(), np.transpose(forces), gradient.T @ -vectors / atoms.get_volume(), sep="\n")  # eV, eV/Å, eV/Å³
