"""Crystals as text, for the tests of what reads them."""

from __future__ import annotations

from pathlib import Path

NACL = """data_NaCl
_cell_length_a 5.64
_cell_length_b 5.64
_cell_length_c 5.64
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'F m -3 m'
loop_
_symmetry_equiv_pos_as_xyz
'x, y, z'
'x, y+1/2, z+1/2'
'x+1/2, y, z+1/2'
'x+1/2, y+1/2, z'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Na1 Na 0 0 0 1
Cl1 Cl 0.5 0.5 0.5 1
"""
"""Rock salt, two sites and the four translations of its face-centred cell: eight atoms."""

HALF = NACL.replace("Na1 Na 0 0 0 1", "Na1 Na 0 0 0 0.5")
"""Every second sodium is missing, no one knows which."""

POSCAR = """cubic silicon
5.43
1 0 0
0 1 0
0 0 1
Si
2
direct
0 0 0
0.25 0.25 0.25
"""


def write_cif_folder(folder: Path, table: str, **cifs: str) -> Path:
    """Make a folder in CGCNN's layout: the text of its table, and id=CIF text."""
    folder.mkdir()
    (folder / "id_prop.csv").write_text(table)
    for identifier, text in cifs.items():
        (folder / f"{identifier}.cif").write_text(text)
    return folder
