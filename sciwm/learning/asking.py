"""Asking the reference: one question, one line in the ledger, whatever comes of it."""

import time

import numpy as np
import torch
from ase.data import chemical_symbols

from sciwm.core.frame import Frame
from sciwm.core.state import State
from sciwm.learning.ledger import Answer, LearningLedger
from sciwm.learning.questions import Question
from sciwm.models.dynamics.potential import Potential
from sciwm.simulation.learned import predict
from sciwm.simulation.simulator import Simulator, SimulatorError


def ask(
    reference: Simulator, question: Question, structure: Frame, round: int, world: Potential | None
) -> Answer:
    """What the reference says, and how wrong the world is about it.

    A failure is an answer too, since it cost what it cost and would come again.
    """
    frame = question.frame(structure)
    began = time.perf_counter()
    try:
        found = reference.evaluate(State.from_frame(frame, torch.float64))
        energy, forces = float(found.energy[0]), found.forces.double().cpu().numpy()
        failure = ""
        if not (np.isfinite(energy) and np.isfinite(forces).all()):
            failure = "energy or forces are not finite"
    except SimulatorError as error:
        failure = str(error) or type(error).__name__
    seconds = time.perf_counter() - began
    if failure:
        return Answer(question, round, seconds, failure=failure)
    wrong = None
    if world is not None and not question.number:
        guess = predict(world, State.from_frame(frame)).forces.double().cpu().numpy()
        wrong = float(np.sqrt(np.mean((guess - forces) ** 2)))
    return Answer(question, round, seconds, energy, forces, force_error=wrong)


def atom_questions(structure: Frame) -> list[Question]:
    """The free atoms of the structure's elements: their energies are the zero that a world counts from."""
    place = np.zeros((1, 3))
    return [
        Question(f"000-atom-{chemical_symbols[number]}", "free atom", "", place, number)
        for number in np.unique(structure.numbers).tolist()
    ]


def atom_energies(ledger: LearningLedger, structure: Frame) -> dict[str, float] | None:
    """By element symbol, in eV; None where the reference failed on one of them."""
    found = {}
    for question in atom_questions(structure):
        answer = ledger.answers.get(question.name)
        if answer is None or answer.energy is None:
            return None
        found[chemical_symbols[question.number]] = answer.energy
    return found
