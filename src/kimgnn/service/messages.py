"""What requests hold, and examples of them: each is a real one, which a test sends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from kimgnn.service.formats import FORMATS, Format, Given
from kimgnn.service.refusals import Refusal

CIF: Final = """\
data_SiC
_cell_length_a 3.08
_cell_length_b 3.08
_cell_length_c 3.08
_cell_angle_alpha 60
_cell_angle_beta 60
_cell_angle_gamma 60
_symmetry_space_group_name_H-M 'P 1'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Si1 Si 0.0 0.0 0.0
C1 C 0.25 0.25 0.25
"""

POSCAR: Final = """\
silicon carbide
1.0
0.0 2.18 2.18
2.18 0.0 2.18
2.18 2.18 0.0
Si C
1 1
Direct
0.0 0.0 0.0
0.25 0.25 0.25
"""

EXTXYZ: Final = """\
2
Lattice="0.0 2.18 2.18 2.18 0.0 2.18 2.18 2.18 0.0" Properties=species:S:1:pos:R:3 pbc="T T T"
Si 0.0 0.0 0.0
C 1.09 1.09 1.09
"""

PYMATGEN: Final[dict[str, Any]] = {
    "@module": "pymatgen.core.structure",
    "@class": "Structure",
    "lattice": {"matrix": [[0.0, 2.18, 2.18], [2.18, 0.0, 2.18], [2.18, 2.18, 0.0]]},
    "sites": [
        {"species": [{"element": "Si", "occu": 1}], "abc": [0.0, 0.0, 0.0]},
        {"species": [{"element": "C", "occu": 1}], "abc": [0.25, 0.25, 0.25]},
    ],
}

ASE: Final[dict[str, Any]] = {
    "numbers": [14, 6],
    "positions": [[0.0, 0.0, 0.0], [1.09, 1.09, 1.09]],
    "cell": [[0.0, 2.18, 2.18], [2.18, 0.0, 2.18], [2.18, 2.18, 0.0]],
    "pbc": [True, True, True],
}

DATA: Final = {"cif": CIF, "poscar": POSCAR, "extxyz": EXTXYZ, "pymatgen": PYMATGEN, "ase": ASE}
"""The same crystal in each format."""

EXAMPLES: Final[dict[str, Any]] = {
    name: {"summary": f"one structure as {name}", "value": {"structures": [{"format": name, "data": data}]}}
    for name, data in DATA.items()
} | {
    "many": {
        "summary": "several, with names",
        "value": {"structures": [{"id": f"from {name}", "format": name, "data": DATA[name]} for name in FORMATS]},
    }
}
"""Of the body of a request, by name, as OpenAPI has them."""


class StructureIn(BaseModel):
    """A structure in one format."""

    model_config = ConfigDict(extra="forbid")

    format: Format = Field(description="What data is. With several frames, extxyz gives a result for each.")
    data: str | dict[str, Any] = Field(description="The text; of pymatgen and ase, an object or its text.")
    id: str = Field("", max_length=200, description="What results and messages call it; by default its place.")
    states: dict[str, float | str] = Field(
        default_factory=dict, description="What the model needs to know besides, such as a temperature: GET /models."
    )


class Request(BaseModel):
    """Structures, and the model that they are for."""

    model_config = ConfigDict(extra="forbid")

    structures: Annotated[list[StructureIn], Field(min_length=1)]
    model: str | None = Field(None, description="Its name: GET /models. It may be left out where there is one model.")

    def given(self, model: str) -> list[Given]:
        """Return the entries as they go to a worker."""
        return [
            Given(model, item.id or f"structure {place}", item.format, item.data, item.states)
            for place, item in enumerate(self.structures)
        ]


SHOWN: Final = 20
"""Problems of a request's form that an answer lists."""

_REQUEST: Final = TypeAdapter(Request)

REQUEST_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": Request.model_json_schema(), "examples": EXAMPLES},
            "chemical/x-cif": {"schema": {"type": "string"}, "example": CIF},
            "text/plain": {"schema": {"type": "string"}, "example": POSCAR},
        },
    }
}
"""Of both ways to send structures, as OpenAPI has it."""


def read_request(body: bytes) -> Request:
    """Return what a request in JSON holds.

    Raises:
        Refusal: It is not JSON, or of another form; every problem is told.
    """
    return _validated(lambda: _REQUEST.validate_json(body))


def checked(content: dict[str, Any]) -> Request:
    """Return a request of these fields.

    Raises:
        Refusal: One is not as it has to be.
    """
    return _validated(lambda: _REQUEST.validate_python(content))


def _validated(read: Callable[[], Request]) -> Request:
    try:
        return read()
    except ValidationError as error:
        raise Refusal(422, problems=[problem_of(found) for found in error.errors(include_url=False)[:SHOWN]]) from None


def problem_of(found: Any) -> dict[str, Any]:
    """Return pydantic's word on a field in our form."""
    *parents, last = found["loc"] or ("the body",)
    where = ".".join(map(str, (*parents, last)))
    told = {"where": where, "message": found["msg"], "value": None, "allowed": "", "remedy": ""}
    if found["type"] == "extra_forbidden":
        told |= {"message": "is not a field of a request", "allowed": "structures, model"}
        if len(parents) > 1:
            told["allowed"] = "format, data, id, states"
        if last in FORMATS:
            told["remedy"] = f'A structure is given in one format: "format": "{last}", "data": ...'
    elif found["type"] == "json_invalid":
        told |= {"message": f"the body is not JSON ({found['msg']})", "remedy": "Send JSON, or a text/plain body."}
    elif last == "format":
        told |= {"allowed": ", ".join(FORMATS)}
        value = found["input"]
        told["value"] = value if isinstance(value, str) and len(value) < 50 else None
    elif last == "structures":
        told["remedy"] = 'Give {"structures": [{"format": "cif", "data": "..."}]}.'
    return told
