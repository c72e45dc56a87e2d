"""LAMMPS input decks for a KIM model: dynamics, minimisation and elastic constants of the structure beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from kimgnn.export.lammps import DATA_FILE

DECKS: Final = {
    "in.nve": "Molecular dynamics at constant energy.",
    "in.nvt": "Molecular dynamics at constant temperature.",
    "in.npt": "Molecular dynamics at constant temperature and pressure.",
    "in.minimize": "Relaxes the atoms, and the box where it is periodic, and writes relaxed.data.",
    "in.elastic": "Elastic constants of the relaxed structure, by finite strains of either sign.",
}
"""What each deck does."""

_UNITS: Final = f"""\
# -var NAME VALUE on the command line sets an "index" variable. Numbers are in these units, metal or real, and so is the
# output, unless the model knows only others: then kim init says so.
variable units index metal
if "${{units}} == metal" then "variable fs equal 0.001" "variable GPa equal 1e4" &
elif "${{units}} == real" "variable fs equal 1.0" "variable GPa equal 1e4/1.01325" &
else "print 'ERROR: units must be metal or real, since {DATA_FILE} is in Angstrom and g/mol'" "quit 1"
"""

_DYNAMICS: Final = """\
variable temperature index 300.0   # K, of the initial velocities too
variable timestep index ${fs}      # ps in metal, fs in real
variable steps index 2000
"""

_PRESSURE: Final = """\
variable pressure index 0.0        # bar in metal, atm in real
"""

_FORCE: Final = """\
variable force index 1e-6          # norm of all forces where minimisation ends; eV/A in metal, kcal/mol/A in real
"""

_STRAIN: Final = """\
variable strain index 1e-3         # of each sign
"""

_START: Final = """\
timestep $(v_timestep*v__u_time)
velocity all create ${temperature} 4928459 mom yes dist gaussian
thermo_style custom step time temp pe ke etotal press vol
thermo_modify line one format float %.12g
thermo 20
"""

_NVE: Final = """\
fix ensemble all nve
run ${steps}
"""

_NVT: Final = """\
fix ensemble all nvt temp ${temperature} ${temperature} $(100*dt)
run ${steps}
"""

_NPT: Final = """\
variable p equal $(v_pressure*v__u_pressure)
fix ensemble all npt temp ${temperature} ${temperature} $(100*dt) aniso ${p} ${p} $(1000*dt)
run ${steps}
"""

_MINIMIZER: Final = """\
thermo_style custom step pe fnorm press pxx pyy pzz pyz pxz pxy vol
thermo_modify line one format float %.12g
thermo 20
variable f equal $(v_force*v__u_force)
"""

_MINIMIZE: Final = """\
minimize 0 ${f} 10000 100000
"""

_WRITE: Final = """\
write_data relaxed.data
"""

_STRAINS: Final = '''\

# The relaxed box, and in it the stress (GPa) by each strain in turn: xx yy zz yz xz xy, of either sign.
variable lx0 equal $(lx)
variable ly0 equal $(ly)
variable lz0 equal $(lz)
variable xy0 equal $(xy)
variable xz0 equal $(xz)
variable yz0 equal $(yz)
variable slope equal 1/(2*v_strain*v_GPa*v__u_pressure)

variable j loop 6
label strain
variable c1 equal 0
variable c2 equal 0
variable c3 equal 0
variable c4 equal 0
variable c5 equal 0
variable c6 equal 0

variable sign index 1 -1
label sign
variable e1 equal $(v_sign*v_strain*(v_j==1))
variable e2 equal $(v_sign*v_strain*(v_j==2))
variable e3 equal $(v_sign*v_strain*(v_j==3))
variable e4 equal $(v_sign*v_strain*(v_j==4))
variable e5 equal $(v_sign*v_strain*(v_j==5))
variable e6 equal $(v_sign*v_strain*(v_j==6))
change_box all x final $(xlo) $(xlo+v_lx0*(1+v_e1)) &
  y final $(ylo) $(ylo+v_ly0*(1+v_e2)) z final $(zlo) $(zlo+v_lz0*(1+v_e3)) &
  xy final $(v_xy0*(1+v_e1)+v_e6*v_ly0) yz final $(v_yz0*(1+v_e2)+v_e4*v_lz0) &
  xz final $(v_xz0*(1+v_e1)+v_e6*v_yz0+v_e5*v_lz0) remap units box
minimize 0 ${f} 10000 100000
variable c1 equal $(v_c1-v_sign*v_slope*pxx)
variable c2 equal $(v_c2-v_sign*v_slope*pyy)
variable c3 equal $(v_c3-v_sign*v_slope*pzz)
variable c4 equal $(v_c4-v_sign*v_slope*pyz)
variable c5 equal $(v_c5-v_sign*v_slope*pxz)
variable c6 equal $(v_c6-v_sign*v_slope*pxy)
next sign
jump SELF sign

variable row${j} string "$(v_c1:%12.4f) $(v_c2:%12.4f) $(v_c3:%12.4f) $(v_c4:%12.4f) $(v_c5:%12.4f) $(v_c6:%12.4f)"
next j
jump SELF strain

print """
Elastic constants C_ij (GPa), i and j in xx yy zz yz xz xy:
${row1}
${row2}
${row3}
${row4}
${row5}
${row6}"""
'''


def setup_commands(model_name: str, species: Sequence[str], boundary: str, units: str = "metal") -> str:
    """Return the commands up to the potential, for a deck that reads `DATA_FILE`.

    Args:
        model_name: Of an installed KIM model.
        species: Elements in the order of the data file's types.
        boundary: LAMMPS's letter for each box vector: ``ppf``.
        units: Of the deck's numbers: ``metal`` or ``real``, which have the data file's Å and g/mol. A model that
            does not know them runs in its own, to which KIM's variables ``_u_energy`` and so on convert.
    """
    return (
        f"kim init {model_name} {units} unit_conversion_mode\n"
        "atom_style atomic\n"
        "newton on\n"
        f"boundary {' '.join(boundary)}\n"
        "box tilt large\n"
        f"read_data {DATA_FILE}\n"
        f"kim interactions {' '.join(species)}\n"
        "neighbor $(v__u_distance) bin\n"
        "neigh_modify every 1 delay 0 check yes\n"
    )


def decks(model_name: str, species: Sequence[str], boundary: str) -> dict[str, str]:
    """Return the decks that suit a structure, by file name: ``in.nve`` and so on.

    Their variables are set with ``-var``. A box that is not periodic shrinks and grows with the atoms; ``in.npt`` and
    ``in.elastic`` are for structures periodic in three directions. Elastic constants are central differences of the
    stress by strain, with the atoms relaxed, about the box relaxed to no stress, where they do not depend on how strain
    is measured.

    Args:
        model_name: Of an installed KIM model.
        species: Elements in the order of the data file's types.
        boundary: ``p`` or ``f`` for each box vector: ``ppf``.
    """
    setup = setup_commands(model_name, species, boundary.replace("f", "s"), "${units}")
    relax = _MINIMIZER + _relax_box(boundary) + _MINIMIZE
    blocks = {
        "in.nve": (_DYNAMICS, _START + _NVE),
        "in.nvt": (_DYNAMICS, _START + _NVT),
        "in.minimize": (_FORCE, relax + _WRITE),
    }
    if boundary == "ppp":
        blocks["in.npt"] = (_DYNAMICS + _PRESSURE, _START + _NPT)
        blocks["in.elastic"] = (_FORCE + _STRAIN, relax + _STRAINS)
    return {
        name: f"# {DECKS[name]}\n{_UNITS}{settings}\n{setup}\n{commands}"
        for name, (settings, commands) in blocks.items()
    }


def _relax_box(boundary: str) -> str:
    """Return the commands that relax atoms and box along the periodic vectors, tilts included; none without any."""
    tilts = [tilt for tilt in ("xy", "xz", "yz") if all(boundary["xyz".index(axis)] == "p" for axis in tilt)]
    lengths = [axis for axis, letter in zip("xyz", boundary, strict=True) if letter == "p"]
    if not lengths:
        return ""
    return (
        ("change_box all triclinic\n" if tilts else "")
        + f"fix box all box/relax {' '.join(f'{name} 0.0' for name in lengths + tilts)} vmax 0.001\n"
        + _MINIMIZE  # twice: the second begins from the box that the first found
        + _MINIMIZE
        + "unfix box\n"
    )
