"Package metadata for today's setuptools, read from settings.ini."
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
parser = ConfigParser(delimiters=['='], interpolation=None)
parser.read(here/'settings.ini', encoding='utf-8')
cfg = parser['DEFAULT']
SUFFIX = '_requirements'
statuses = ['1 - Planning', '2 - Pre-Alpha', '3 - Alpha', '4 - Beta', '5 - Production/Stable', '6 - Mature', '7 - Inactive']

setup(
    name=cfg['lib_name'], version=cfg['version'], description=cfg['description'],
    author=cfg['author'], author_email=cfg['author_email'], license='Apache-2.0',
    keywords=cfg['keywords'].split(), url=cfg['git_url'],
    classifiers=[f'Development Status :: {statuses[cfg.getint("status")-1]}',
                 f'Intended Audience :: {cfg["audience"]}', 'Programming Language :: Python :: 3'],
    packages=find_packages(include=[f'{cfg["lib_name"]}*']), include_package_data=True, zip_safe=False,
    python_requires=f'>={cfg["min_python"]}',
    install_requires=cfg['requirements'].split(),
    extras_require={k[:-len(SUFFIX)]: v.split() for k, v in cfg.items() if k.endswith(SUFFIX)},
    long_description=(here/'README.md').read_text(encoding='utf-8') if (here/'README.md').exists() else '',
    long_description_content_type='text/markdown',
    entry_points={'console_scripts': cfg['console_scripts'].split('\n'),
                  'nbdev': [f'{cfg["lib_name"]}={cfg["lib_name"]}._modidx:d']},
)
