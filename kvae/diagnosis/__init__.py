"""Diagnosis: turns numbers into findings, each with a remedy; the doctor and its page."""

from kvae.diagnosis.condition import check_classes
from kvae.diagnosis.doctor import Diagnosis, diagnose
from kvae.diagnosis.finding import NAMES, SEVERITIES, Finding
from kvae.diagnosis.latents import (
    check_capacity,
    check_groups,
    check_kl_over_time,
    check_latents,
    check_prior_gap,
)
from kvae.diagnosis.learning import check_gradients, check_overfitting
from kvae.diagnosis.look import capacity_of
from kvae.diagnosis.pixels import check_likelihood, check_scale, learns_scale, pixel_facts

__all__ = [
    "NAMES",
    "SEVERITIES",
    "Diagnosis",
    "Finding",
    "capacity_of",
    "check_capacity",
    "check_classes",
    "check_gradients",
    "check_groups",
    "check_kl_over_time",
    "check_latents",
    "check_likelihood",
    "check_overfitting",
    "check_prior_gap",
    "check_scale",
    "diagnose",
    "learns_scale",
    "pixel_facts",
]
