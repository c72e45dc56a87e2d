/* What a simulator passes to KIM::Model::Extension (in C, KIM_Model_Extension), in the place of a call of
 * KIM::Model::Compute, to learn also how far the members of a committee are from one another. Plain C; copy it into the
 * simulator. README.md says more, example/committee.cpp uses it. */

#ifndef KIMGNN_COMMITTEE_H_
#define KIMGNN_COMMITTEE_H_

#include <stddef.h>

#define KIMGNN_COMMITTEE_DEVIATION "kimgnn_committee_deviation" /* the extension's ID */

/* N particles, ghosts included, and M members. What is not wanted is null; units are those of the model. Deviations are
 * standard deviations over the members, with M - 1 in the denominator. */
struct kimgnn_committee_deviation {
  /* Given. */
  size_t size;             /* sizeof(struct kimgnn_committee_deviation) */
  void *compute_arguments; /* KIM::ComputeArguments of this model, with all that KIM::Model::Compute needs (in C, what the
                              handle points to first: *(void **) compute_arguments); null: only `members` is written */
  const int *owner;        /* (N,) the particle that each is an image of, or itself; null: no forces act on images */

  /* Written. */
  int members;                       /* M */
  double *energy_deviation;          /* (1,) of the energy of the contributing particles */
  double *particle_energy_deviation; /* (N,) zero for those that do not contribute */
  double *forces_deviation;          /* (N, 3) of each component, images' forces added to their owners'; zero for images */
  double *member_energies;           /* (M,) the energies of the contributing particles */
  double *member_forces;             /* (M, N, 3) partial forces, images' on the images; their mean is partialForces */
};

#endif
