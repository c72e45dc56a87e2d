// Factors between the simulator's units and those of the networks, Å and eV.

#pragma once

namespace kimgnn {

struct Units {
  double angstrom;  // one length unit of the simulator, in Å
  double length;    // 1 Å in the simulator's length unit
  double energy;    // 1 eV in the simulator's energy unit; also of a virial
  double force;     // 1 eV/Å in the simulator's units
};

}  // namespace kimgnn
