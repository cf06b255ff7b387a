"The networks that ship: small, and right about signals that were made with another seed than those they were trained on."
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

import lt_signals
from lt_signals.core.device import evaluating
from lt_signals.evaluation.stored import read_predictions
from lt_signals.io.signal_store import SignalStore
from lt_signals.runs.prediction import detector_of
from lt_signals.runs.pretrained import load_pretrained, shipped as networks
from lt_signals.runs.recognizer import Recognizer
from lt_signals.synth.frame_sets import synth_modulations
from lt_signals.synth.remotes import synth_remotes
from lt_signals.synth.scene_crops import scene_crops
from lt_signals.synth.scenes import Scenes

NAMES = ['modulations24', 'detector', 'iq_encoder']
WEIGHTS, SEED = Path(lt_signals.__file__).parent/'weights', 977


@cache
def shipped(name):
    return Recognizer.of(load_pretrained(name, 'cpu'))


def size(folder): return sum(f.stat().st_size for f in folder.rglob('*') if f.is_file())


def test_small_and_complete():
    packed = sorted(f.name for f in WEIGHTS.iterdir() if f.is_dir())
    assert packed == sorted(NAMES) == sorted(networks)
    for name in packed:
        assert {'config.json', 'model.safetensors', 'README.md'} <= {f.name for f in (WEIGHTS/name).iterdir()}
        assert size(WEIGHTS/name) < 5e6
        assert all(f.stat().st_size < 1.5e6 for f in (WEIGHTS/name).rglob('*') if f.is_file())
    assert size(WEIGHTS) < 8e6


def test_package_takes_them_along():
    manifest = WEIGHTS.parent.parent/'MANIFEST.in'
    if not manifest.exists(): pytest.skip('an installed package has no MANIFEST.in')
    assert 'recursive-include lt_signals/weights *' in manifest.read_text()


def test_modulations_and_snr():
    r = shipped('modulations24')
    assert len(r.classes) == 24 and len(r.recipe.facts['snr_values']) == 11
    store = synth_modulations(r.classes, [10., 18., 26.], n_per=3, length=512, seed=SEED)
    said = r.predict(store)
    right = said.modulation.to_numpy() == np.asarray(store.classes)[store.labels]
    off = np.abs(said.snr_db.to_numpy() - store.meta.snr_db.to_numpy())
    easy = np.isin(np.asarray(store.classes)[store.labels], ['OOK', 'BPSK', 'AM-SSB-SC', 'AM-DSB-SC', 'GMSK'])
    assert right.mean() > .33 and right[easy].mean() > .75, (right.mean(), right[easy].mean())
    assert off.mean() < 1, off.mean()


def test_card_says_what_its_predictions_say():
    seen, card = read_predictions(WEIGHTS/'modulations24'/'predictions.safetensors').preds, (WEIGHTS/'modulations24'/'README.md').read_text()
    for name in ('modulation', 'snr'):
        right = (seen.logits[name].argmax(-1) == seen.targets[name]).float().mean().item()
        assert f'| {name:<10} |  {100*right:.1f} % |' in card


def test_gain_and_phase_do_not_matter():
    r, store = shipped('modulations24'), synth_modulations(['BPSK', 'FM'], [18.], n_per=4, length=512, seed=SEED)
    loud = SignalStore.from_arrays(50*store.take(range(8)), store.labels, store.classes)
    assert r.predict(loud).modulation.tolist() == r.predict(store).modulation.tolist()


def test_detector_on_new_scenes():
    r = shipped('detector')
    d, crops = detector_of(r), scene_crops(Scenes(seed=SEED), range(6), detector_of(r).options.finder(), per_signal=4.)
    s = d.evaluate(crops)
    assert s['recall'] > .8 and s['precision'] > .7, s


def test_encoder_knows_new_transmitters_from_five_examples():
    r, store = shipped('iq_encoder'), synth_remotes(n_classes=10, n_per=10, seed=SEED)
    x = SignalStore(store.source, None, r.recipe.normalize).take(range(100))
    with evaluating(r.model): f = torch.nn.functional.normalize(r.model.backbone(x), dim=-1).unflatten(0, (10, 10))
    means = torch.nn.functional.normalize(f[:, :5].mean(1), dim=-1)
    right = (f[:, 5:]@means.T).argmax(-1) == torch.arange(10)[:, None]
    assert right.float().mean() > .7, right.float().mean()
