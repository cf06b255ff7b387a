"""Two aircraft whose transmitters are equal are told apart by whole messages, and not by what `read_modes` keeps by default.

The quick version of benchmarks/content.py, whose cases and training it takes; the wide one is kept in benchmarks/content.json.
"""
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from lt_signals.core.rows import read_rows

bench = Path(__file__).parents[1]/'benchmarks'

def load():
    spec = importlib.util.spec_from_file_location('content', bench/'content.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

def mean(case, seeds, **how):
    done = [load().run(case, s, **how) for s in seeds]
    return np.mean([r['scores']['accuracy'] for r in done]), done[0]['scores']

def test_default_is_at_chance():
    accuracy, r = mean('equal, preamble', (7,), n_test=2000)
    assert accuracy <= .53 and not r['leaks'] and r['bits_alone'] == .5, accuracy

@pytest.mark.slow # trainings of a minute
def test_whole_messages_leak():
    accuracy, r = mean('equal, message', (7,), n_test=200)
    assert accuracy > .9 and r['leaks'] and r['bits_alone'] > .99, accuracy

def test_hardware_is_still_seen():
    accuracy, _ = mean('differ, preamble', (7,), n_test=200)
    assert accuracy > .9, accuracy

@pytest.mark.slow # trainings of a minute
def test_runs_of_bits_at_two_samples_a_bit():
    "Neither the place between two samples nor what is decoded betrays the bits."
    accuracy, r = mean('runs of bits, 2 MS/s', (7, 8), n_test=1000)
    assert accuracy <= .53 and r['decoded'] > .95, (accuracy, r['decoded'])

def test_stored_results_hold():
    rows = read_rows(bench/'content.json')
    by = {c: np.mean([r['scores']['accuracy'] for r in rows if r['method'] == c]) for c in {r['method'] for r in rows}}
    assert by.pop('equal, message') > .9 and by.pop('differ, preamble') > .9
    assert max(by.values()) <= .53, by
