"""Damaged and hostile files: every reader refuses with `SignalFileError`, or reads; it never crashes, hangs or eats memory.

150 mutants a format; 3,000 with `-m slow`. Mutants run in forked children, so that a crash is seen as such.
"""
import json, os, pickle, re, resource, select, signal, struct, time
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest
import torch
from scipy.io import savemat

from lt_signals.core.errors import SignalFileError
from lt_signals.io.child_process import parser
from lt_signals.io.readers import detect_format, open_signals, readers
from lt_signals.io.recordings import sample_formats
from lt_signals.io.shards import write_shards
from lt_signals.io.signal_store import SignalStore
from lt_signals.io.write import write_signals

pytestmark = pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs os.fork')
n_samples,n_time = 12,64
max_seconds,max_growth = 5., 2**28  # of a processor, per mutant; bytes over a whole batch of mutants
hang = 60  # seconds without an answer
batch = 150


# Sample files: each maker writes one valid file and returns (file to damage, file or folder to open).

def iq(): return np.random.default_rng(7).normal(size=(n_samples, 2, n_time)).astype(np.float32)
def labels(): return np.arange(n_samples) % 3
def store(): return SignalStore.from_arrays(iq(), labels(), ['a', 'b', 'c'], dict(snr_db=np.arange(12.)), 2e6)

def written(suffix, damaged=None):
    def make(folder):
        path = write_signals(store(), folder/f'set{suffix}')
        return (path.with_suffix(damaged) if damaged else path), path
    return make

def make_npz_zipped(folder):
    np.savez_compressed(folder/'set.npz', X=iq(), Y=labels(), snr=np.arange(12))
    return folder/'set.npz', folder/'set.npz'

def make_hdf5_zipped(folder, **options):
    with h5py.File(folder/'set.hdf5', 'w') as f:
        f.create_dataset('X', data=iq(), chunks=(4, 2, n_time), compression='gzip', **options)
        f['Y'],f['names'] = labels(),np.array([b'n%d' % i for i in range(n_samples)])
    return folder/'set.hdf5', folder/'set.hdf5'

def make_hdf5_text(folder):
    "Labels as text of variable length, which lies in a heap."
    with h5py.File(folder/'set.h5', 'w') as f: f['X'],f['Y'] = iq(),[f'class {i}' for i in labels()]
    return folder/'set.h5', folder/'set.h5'

def make_hdf5_checked(folder): return make_hdf5_zipped(folder, fletcher32=True)

def make_mat_plain(folder):
    cells = np.empty(n_samples, object)
    cells[:] = [x[:, :20+i] for i,x in enumerate(iq())]
    savemat(folder/'set.mat', dict(signals=cells, labels=labels(), meta=dict(snr_db=np.arange(12.))))
    return folder/'set.mat', folder/'set.mat'

def make_mat_73(folder):
    with h5py.File(folder/'set.mat', 'w', userblock_size=512) as f:
        z = np.empty((n_time, n_samples), [('real', 'f8'), ('imag', 'f8')])
        z['real'],z['imag'] = iq()[:, 0].T,iq()[:, 1].T
        f.create_dataset('x', data=z).attrs['MATLAB_class'] = np.bytes_('double')
        f.create_dataset('y', data=labels()[None]).attrs['MATLAB_class'] = np.bytes_('double')
    return folder/'set.mat', folder/'set.mat'

def make_rml2016(folder, protocol=2):
    frames = {(m, s): iq()[:3]*.006 for m in ('BPSK', 'QPSK') for s in (-2, 0)}
    (folder/'set.pkl').write_bytes(pickle.dumps(frames, protocol))
    return folder/'set.pkl', folder/'set.pkl'

def make_rml2016_text(folder): return make_rml2016(folder, 0)

def write_xyz(path, mods, snr):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, 'w') as f:
        f['X'],f['Y'],f['Z'] = iq().transpose(0, 2, 1)[:len(mods)],np.eye(24)[mods],np.full((len(mods), 1), snr)
    return path

def make_rml2018(folder): return (write_xyz(folder/'set.h5', range(12), 10),)*2

def make_split_hdf5(folder):
    for m,mod in ((3, 'BPSK'), (4, 'QPSK')):
        path = write_xyz(folder/'split'/mod/'SNR_10'/f'{mod}_SNR_10.h5', [m]*6, 10)
    return path, folder/'split'

def raw_capture(folder, suffix, dtype):
    x = np.zeros((4096, 2))
    x[1024:3072] = np.random.default_rng(3).normal(size=(2048, 2))
    x = x if dtype == np.float32 else x*30 + (127.5 if dtype == np.uint8 else 0)
    x.astype(dtype).tofile(folder/f'set{suffix}')
    return folder/f'set{suffix}', folder/f'set{suffix}'

def make_cu8(folder): return raw_capture(folder, '.cu8', np.uint8)
def make_cs16(folder): return raw_capture(folder, '.cs16', np.int16)
def make_cf32(folder): return raw_capture(folder, '.cf32', np.float32)

def sigmf(folder):
    from sigmf import SigMFFile
    data = folder/'set.sigmf-data'
    raw_capture(folder, '.sigmf-data', np.float32)
    meta = SigMFFile(data_file=str(data), global_info={'core:datatype': 'cf32_le', 'core:sample_rate': 2e6, 'core:version': '1.0.0'})
    meta.add_capture(0)
    meta.add_annotation(1024, 1024, {'core:label': 'a'})
    meta.add_annotation(2048, 1024, {'core:label': 'b'})
    meta.tofile(str(folder/'set.sigmf-meta'))
    return meta

def make_sigmf_meta(folder):
    sigmf(folder)
    return folder/'set.sigmf-meta', folder/'set.sigmf-meta'

def make_sigmf_data(folder):
    sigmf(folder)
    return folder/'set.sigmf-data', folder/'set.sigmf-meta'

def make_sigmf_archive(folder):
    sigmf(folder).archive(str(folder/'packed.sigmf'))
    return folder/'packed.sigmf', folder/'packed.sigmf'

def sigmf_packed(suffix, mode):
    "An archive that is compressed as a whole."
    def make(folder):
        import tarfile
        sigmf(folder)
        with tarfile.open(folder/f'packed.sigmf{suffix}', mode) as t:
            for name in ('set.sigmf-meta', 'set.sigmf-data'): t.add(folder/name, f'set/{name}')
        return folder/f'packed.sigmf{suffix}', folder/f'packed.sigmf{suffix}'
    return make

def make_sigmf_zip(folder):
    import zipfile
    sigmf(folder)
    with zipfile.ZipFile(folder/'packed.sigmf.zip', 'w', zipfile.ZIP_DEFLATED) as z:
        for name in ('set.sigmf-meta', 'set.sigmf-data'): z.write(folder/name, name)
    return folder/'packed.sigmf.zip', folder/'packed.sigmf.zip'

def make_sigmf_collection(folder):
    sigmf(folder)
    text = json.dumps({'collection': {'core:version': '1.0.0', 'core:streams': [['set', '0'*128]]}})
    (folder/'all.sigmf-collection').write_text(text)
    return folder/'all.sigmf-collection', folder/'all.sigmf-collection'

def make_sigmf_boxes(folder):
    "Annotations with bands, two channels, two captures, and fields of an extension."
    data = folder/'set.sigmf-data'
    raw_capture(folder, '.sigmf-data', np.float32)
    notes = [{'core:sample_start': 100, 'core:sample_count': 900, 'core:freq_lower_edge': 1e8 + 1e4, 'core:freq_upper_edge': 1e8 + 9e4,
              'core:comment': 'first', 'radio:transmitter': {'id': 7}},
             {'core:sample_start': 900, 'core:sample_count': 400, 'core:freq_lower_edge': 1e8 - 9e4, 'core:freq_upper_edge': 1e8,
              'radio:transmitter': {'id': 8}}]
    about = {'core:datatype': 'cf32_le', 'core:sample_rate': 1e6, 'core:version': '1.2.0', 'core:num_channels': 2, 'core:hw': 'x',
             'core:geolocation': {'type': 'Point', 'coordinates': [8.5, 47.4]}}
    captures = [{'core:sample_start': 0, 'core:frequency': 1e8}, {'core:sample_start': 1000, 'core:frequency': 1e8, 'core:header_bytes': 0}]
    data.with_suffix('.sigmf-meta').write_text(json.dumps({'global': about, 'captures': captures, 'annotations': notes}))
    return folder/'set.sigmf-meta', folder/'set.sigmf-meta'

def make_modes(folder):
    from lt_signals.synth.emitters import synth_emitters
    x = synth_emitters(counts=[1, 1], n_valid=0, n_test=0, sample_rate=4e6, snr_db=(30., 30.)).take([0, 1])
    (x*20000).permute(0, 2, 1).reshape(-1).to(torch.int16).numpy().tofile(folder/'set.iq')
    return folder/'set.iq', folder/'set.iq'

def recording(): return np.clip(iq().transpose(0, 2, 1).reshape(-1, 2)*.2, -.99, .99)

def make_wav(folder, name='set.wav', numbers='<i2', tag=1, scale=32767, columns=2):
    data = (recording()[:, :columns]*scale).astype(numbers)
    size = data.dtype.itemsize
    fmt = struct.pack('<HHIIHH', tag, columns, 10**6, columns*size*10**6, columns*size, 8*size)
    auxi = bytes(32) + struct.pack('<9I', 10**8, 10**6, *[0]*7)
    chunks = b''.join(k + struct.pack('<I', len(c)) + c for k,c in ((b'fmt ', fmt), (b'auxi', auxi), (b'data', data.tobytes())))
    (folder/name).write_bytes(b'RIFF' + struct.pack('<I', len(chunks) + 4) + b'WAVE' + chunks)
    return folder/name, folder/name

def make_wav_float(folder): return make_wav(folder, 'set.wav', '<f4', 3, 1, 1)

def make_au(folder):
    data = (recording()*32767).astype('>i2').tobytes()
    (folder/'set.au').write_bytes(b'.snd' + struct.pack('>5I', 24, len(data), 3, 10**6, 2) + data)
    return folder/'set.au', folder/'set.au'

def make_csv_iq(folder):
    rows = [f'{k/1e6:.7f},{a:.5f},{b:.5f}' for k,(a,b) in enumerate(recording())]
    (folder/'set.csv').write_text('Time,I,Q\n' + '\n'.join(rows) + '\n')
    return folder/'set.csv', folder/'set.csv'

def make_blue(folder):
    data,head = (recording()*32767).astype('<i2').tobytes(),bytearray(512)
    data += bytes(-len(data) % 512)
    word = struct.pack('<ihb', 24, 16, 7) + b'D' + struct.pack('<d', 1e8) + b'RF_FREQ\0'
    head[:12],head[52:54] = b'BLUEEEEIEEEI',b'CI'
    struct.pack_into('<ii', head, 24, 1 + len(data)//512, len(word))
    struct.pack_into('<ddi', head, 32, 512., float(len(data)), 1000)
    struct.pack_into('<ddi', head, 256, 0., 1e-6, 1)
    (folder/'set.blue').write_bytes(bytes(head) + data + word)
    return folder/'set.blue', folder/'set.blue'

options = dict(sigmf_boxes=dict(band='cut', window=64, label_key='radio:transmitter/id'), modes=dict(format='modes', sample_rate=4e6, iq_format='cs16'))  # where the file does not tell
def make_npy_json(folder):
    np.save(folder/'set.npy', iq())
    facts = dict(labels=labels().tolist(), classes=['a', 'b', 'c'], sample_rate=2e6, meta=dict(snr_db=list(range(12))))
    (folder/'set.json').write_text(json.dumps(facts))
    return folder/'set.json', folder/'set.npy'

def make_folder(folder):
    for k in 'ab':
        (folder/'set'/k).mkdir(parents=True)
        last = write_signals(store(), folder/'set'/k/'some.npz')
    return last, folder/'set'

def make_path_table(folder):
    for k in 'ab': write_signals(store(), folder/f'{k}.npz')
    (folder/'set.csv').write_text('path,label,day\n' + ''.join(f'{k}.npz,{k},{i}\n' for i,k in enumerate('ab')))
    return folder/'set.csv', folder/'set.csv'

def sharded(damaged):
    def make(folder):
        write_shards(store(), folder/'set', shard_bytes=1, compress=True)
        return folder/'set'/damaged, folder/'set'
    return make

makers = dict(shards=sharded('shard-00000.h5'), shards_index=sharded('index.json'), shards_rows=sharded('rows.npz'), folder=make_folder, path_table=make_path_table, npy=written('.npy'), npy_json=make_npy_json, npz=written('.npz'), npz_zipped=make_npz_zipped,
    hdf5=written('.h5'), hdf5_text=make_hdf5_text, hdf5_zipped=make_hdf5_zipped, hdf5_checked=make_hdf5_checked, mat=written('.mat'), mat_plain=make_mat_plain,
    mat_73=make_mat_73, rml2016=make_rml2016, rml2016_text=make_rml2016_text, rml2018=make_rml2018, split_hdf5=make_split_hdf5,
    wav=make_wav, wav_float=make_wav_float, au=make_au, csv_iq=make_csv_iq, blue=make_blue,
    cu8=make_cu8, cs16=make_cs16, cf32=make_cf32, sigmf_meta=make_sigmf_meta, sigmf_data=make_sigmf_data, sigmf_archive=make_sigmf_archive,
    sigmf_gz=sigmf_packed('.gz', 'w:gz'), sigmf_xz=sigmf_packed('.xz', 'w:xz'), sigmf_bz2=sigmf_packed('.bz2', 'w:bz2'), sigmf_zip=make_sigmf_zip,
    sigmf_collection=make_sigmf_collection, sigmf_boxes=make_sigmf_boxes, modes=make_modes)


# Public sets: files of their layouts

def make_wisig(folder):
    data = [[[[iq().transpose(0, 2, 1)[:4]] for day in 'ab'] for rx in 'uv'] for tx in 'xy']
    (folder/'ManySig.pkl').write_bytes(pickle.dumps(dict(tx_list=['1-1', '2-2'], rx_list=['u', 'v'], capture_date_list=['a', 'b'], equalized_list=[0], max_sig=4, data=data), 2))
    return (folder/'ManySig.pkl',)*2

def make_lora_rffi(folder):
    with h5py.File(folder/'set.h5', 'w') as f: f['data'],f['label'] = np.tile(iq().reshape(n_samples, -1), 4),labels()[None] + 1.
    return (folder/'set.h5',)*2

def make_radcom(folder):
    with h5py.File(folder/'set.h5', 'w') as f:
        for i,x in enumerate(iq()): f[str(('bpsk', 'Satcom', 10, i))] = x.ravel()
    return (folder/'set.h5',)*2

def make_wavesfm(folder):
    with h5py.File(folder/'set.h5', 'w') as f:
        f['sample'],f['label'],f['source_file'] = iq()[:, :, None],labels(),[f'f{i}' for i in range(n_samples)]
        f.attrs['labels'] = json.dumps(['a', 'b', 'c'])
    return (folder/'set.h5',)*2

def make_torchsig(folder):
    with h5py.File(folder/'data.h5', 'w', libver='latest') as f:
        for i,x in enumerate(iq()):
            f.create_dataset(f'data/{i}', data=x[0] + 1j*x[1], compression='lzf', shuffle=True, fletcher32=True, chunks=True)
            f[f'index/{i}'],f[f'metadata/{i}/class_name'],f[f'metadata/{i}/snr_db'] = str(i),'ab'[i % 2],float(i)
    return (folder/'data.h5',)*2

def make_hisarmod(folder, damaged=None):
    with h5py.File(folder/'train.mat', 'w', userblock_size=512) as f: f['data_save'] = iq().transpose(1, 2, 0)
    np.savetxt(folder/'train_labels1.csv', np.arange(n_samples) + 4, fmt='%d'); np.savetxt(folder/'train_snr.csv', np.arange(n_samples), fmt='%d')
    return folder/(damaged or 'train.mat'), folder/'train.mat'

def make_hisarmod_labels(folder): return make_hisarmod(folder, 'train_labels1.csv')

def make_npy_pair(folder, damaged='X_train.npy'):
    np.save(folder/'X_train.npy', iq()[..., None]); np.save(folder/'Y_train.npy', labels())
    return folder/damaged, folder/'X_train.npy'

def make_npy_pair_labels(folder): return make_npy_pair(folder, 'Y_train.npy')

def make_adsb_10x360(folder):
    with h5py.File(folder/'set.mat', 'w', userblock_size=512) as f: f['signal'],f['label'] = np.zeros((2, 4800, 3), 'f4') + 1,np.arange(3.)[None]
    return (folder/'set.mat',)*2

def make_csil_raw(folder):
    with h5py.File(folder/'set.mat', 'w', userblock_size=512) as f:
        f['rawIMatrix'],f['rawQMatrix'],f['icaoLst'],f['msgIdLst'] = iq()[:, 0].reshape(-1, 1),iq()[:, 1].reshape(-1, 1),labels()[None] + 1.,np.arange(12.)[None]
    return (folder/'set.mat',)*2

def make_csil(folder):
    with h5py.File(folder/'set.mat', 'w', userblock_size=512) as f: f['X'],f['cX'],f['Y'],f['cY'] = np.ones((4, 3, 8, 8)),np.ones((2, 3, 8, 8)),np.arange(4.)[None],np.arange(2.)[None]
    return (folder/'set.mat',)*2

def make_rml2018_parts(folder):
    for i in (1, 10): path = write_xyz(folder/'set'/f'part{i}.h5', range(12), 10)
    return path, folder/'set'

def make_oracle(folder, damaged='meta'):
    name = folder/'set'/'WiFi_air_X310_3123D7B_2ft_run1.sigmf-data'
    name.parent.mkdir()
    raw_capture(name.parent, '.tmp', np.float32)[0].rename(name)
    name.with_suffix('.sigmf-meta').write_text(json.dumps(dict(_metadata={'global': {'core:sample_rate': 5e6}, 'captures': [{'core:frequency': 2e9}], 'annotations': [{'core:sample_start': 0, 'core:sample_count': 4096}]})))
    return name.with_suffix(f'.sigmf-{damaged}'), folder/'set'

def make_powder(folder):
    data = raw_capture(folder, '.bin', np.float32)[0]
    data.with_suffix('.json').write_text(json.dumps({'global': {'core:datatype': 'cf32', 'core:sample_rate': 5e6}, 'captures': {'core:center_frequency': 2e9}, 'annotations': {'transmitter': {'core:location': 'bes'}}}))
    return data.with_suffix('.json'), data

def make_cspb(folder, damaged='signal_1.tim'):
    for i in (1, 2): (folder/f'signal_{i}.tim').write_bytes(np.array([2, 64], '<i4').tobytes() + iq()[0].T.astype('<f4').tobytes())
    (folder/'signal_record.txt').write_text('1 bpsk 11 -7e-04 9e-01 10 9 5.4 0.0\n2 qpsk 8 .002 .5 3 2 9.0 0.0\n')
    return folder/damaged, folder

def make_cspb_record(folder): return make_cspb(folder, 'signal_record.txt')

set_makers = dict(wisig=make_wisig, lora_rffi=make_lora_rffi, radcom=make_radcom, wavesfm=make_wavesfm, torchsig=make_torchsig, hisarmod=make_hisarmod, hisarmod_labels=make_hisarmod_labels,
    npy_pair=make_npy_pair, npy_pair_labels=make_npy_pair_labels, adsb_10x360=make_adsb_10x360, csil_raw=make_csil_raw, csil=make_csil, rml2018_parts=make_rml2018_parts, oracle=make_oracle, powder=make_powder,
    cspb=make_cspb, cspb_record=make_cspb_record)
makers.update(set_makers)
options.update({k: dict(format=k.removesuffix('_labels').removesuffix('_record').removesuffix('_parts')) for k in set_makers})


# Mutants

edges = [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 2**31-1, 2**31, 2**32-1, 2**62, 2**63-1, 2**63, 2**64-1]

def place(rng, n):
    "A position: anywhere, or near the start or end, where headers are."
    near = min(n, 600)
    return int([rng.integers(n), rng.integers(near), n - 1 - rng.integers(near)][rng.integers(3)])

def mutant(data, rng):
    "Cut off, flip up to eight bytes, or put an edge integer somewhere."
    data,kind = bytearray(data),rng.integers(3)
    if kind == 0: return bytes(data[:place(rng, len(data))])
    if kind == 1:
        for _ in range(rng.integers(1, 9)): data[place(rng, len(data))] ^= int(rng.integers(1, 256))
        return bytes(data)
    width,at = int(2**rng.integers(4)), place(rng, len(data))
    value = (edges[rng.integers(len(edges))] % 2**(8*width)).to_bytes(width, ['little', 'big'][rng.integers(2)])
    return bytes(data[:at] + value + data[at+width:])


# One mutant, in the child

inner = 'TypeError', 'KeyError', 'IndexError', 'AttributeError', 'RecursionError', 'NoneType'

def try_open(path, options={}):
    "'read' or 'refused', or what went wrong."
    try:
        s = open_signals(path, **options)
        x = s.take(sorted({0, len(s)//2, len(s)-1}))
        ok = torch.isfinite(x).all() and x.shape[1:] == (s.n_channels, s.target_length) and len(s.meta) == len(s.labels)
        return 'read' if ok and s.labels.max() < max(len(s.classes), 1) else f'nonsense was read: {s!r}'
    except SignalFileError as e:
        if 'MemoryError' in str(e) or 'more memory than there is' in str(e): return f'asked for too much memory: {e}'
        if names := re.findall('|'.join(inner), str(e)): return f'names {names[0]}: {e}'
        if 'its content is not what' in str(e): return f'a wrapped {type(e.__cause__).__name__}: {e} ({e.__cause__})'
        if not (Path(e.path).name in str(e) and e.problem and e.remedy): return f'error without file, reason or remedy: {e}'
        return 'refused'
    except BaseException as e: return f'{type(e).__name__}: {e}'

def spent():
    "Seconds of processor time of this process, and of the one that unpickles for it."
    helper = parser.process if parser.owner == os.getpid() else None
    try: return time.process_time() + (sum(psutil.Process(helper.pid).cpu_times()[:2]) if helper else 0.)
    except psutil.NoSuchProcess: return time.process_time()

def child(target, opened, options, data, seeds, out):
    torch.set_num_threads(1)
    used = int(Path('/proc/self/statm').read_text().split()[0])*resource.getpagesize() if Path('/proc').exists() else 2**36
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**31, resource.RLIM_INFINITY))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in seeds:
        target.write_bytes(mutant(data, np.random.default_rng(seed)))
        start,outcome = spent(),try_open(opened, options)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)*1024
        if grown > max_growth: outcome = f'memory grew by {grown:,} bytes'
        out.write(json.dumps([seed, outcome, max(0., spent() - start)]) + '\n')
        out.flush()

def run_batch(target, opened, options, data, seeds):
    "Outcomes of a batch, from a forked child; a crash or a hang ends the batch."
    r,w = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(r)
        with os.fdopen(w, 'w') as out:
            try: child(target, opened, options, data, seeds, out)
            finally:
                out.flush()
                parser.stop()
                os._exit(0)
    os.close(w)
    done = []
    with os.fdopen(r, 'rb', buffering=0) as f:
        lines = b''
        while select.select([f], [], [], hang)[0]:
            got = f.read(2**16)
            if not got: break
            lines += got
        else: os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    done = [json.loads(l) for l in lines.splitlines()]
    if len(done) < len(seeds): done.append([seeds[len(done)], f'crashed or hung (status {status})', 0.])
    return done

def fuzz(name, n, folder):
    target,opened = makers[name](folder)
    data = target.read_bytes()
    how = options.get(name, {})
    assert try_open(opened, how) == 'read', try_open(opened, how)
    done = []
    for a in range(0, n, batch): done += run_batch(target, opened, how, data, list(range(a, min(a + batch, n))))
    bad = [d for d in done if d[1] not in ('read', 'refused') or d[2] > max_seconds]
    said = {k: sum(d[1] == k for d in done) for k in ('read', 'refused')}
    print(f'{name}: {said}, slowest {max(d[2] for d in done):.2f} s of a processor')
    assert not bad, bad[:5]
    assert len(done) == n and (said['refused'] > 0 or name in ('cu8', 'cs16'))  # any bytes are samples

@pytest.mark.parametrize('name', makers)
def test_mutants(name, tmp_path): fuzz(name, batch, tmp_path)

@pytest.mark.slow
@pytest.mark.parametrize('name', makers)
def test_many_mutants(name, tmp_path): fuzz(name, 3000, tmp_path)

@pytest.mark.parametrize('name', set_makers)
def test_sets_are_recognised(name, tmp_path):
    "A public set is opened by its reader without being named."
    assert detect_format(set_makers[name](tmp_path)[1]) == options[name]['format']

def test_every_reader_is_fuzzed(tmp_path):
    "A new reader needs a sample file here."
    found = set()
    for name,make in makers.items():
        (tmp_path/name).mkdir()
        found.add(options.get(name, {}).get('format') or detect_format(make(tmp_path/name)[1]))
    rest = set(readers) - found
    assert rest <= set(sample_formats), rest  # these are `captures` by another name


# Writing

@pytest.mark.parametrize('suffix', ['.h5', '.npy', '.npz', '.mat'])
def test_killed_writer_leaves_whole_files(suffix, tmp_path):
    "A writer killed at any moment leaves the old file, the new one or none."
    rng,old = np.random.default_rng(1),store()
    new = SignalStore.from_arrays(np.tile(iq(), (40, 1, 1)), np.tile(labels(), 40))
    for i in range(12):
        path = tmp_path/f'{i}{suffix}'
        if i % 2: write_signals(old, path)
        pid = os.fork()
        if pid == 0:
            while True: write_signals(new, path)
        time.sleep(float(rng.uniform(0, .03)))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        if not path.exists(): continue
        try: assert len(open_signals(path)) in (len(old), len(new))
        except SignalFileError: assert suffix == '.npy'  # two files: the array does not fit its labels, and this is noticed
