"""Package metadata; the tools' settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

# What several extras bring.
COMMANDS = ["absl-py>=2.1", "ml-collections>=1.0"]
FILES = ["h5py>=3.11", "scikit-learn>=1.5"]
EXPERIMENT = [
    *COMMANDS,
    *FILES,
    "jinja2>=3.1",
    "joblib>=1.3",
    "matplotlib>=3.8",
    "orbax-checkpoint>=0.11",
    "pandas>=2.2",
    "pillow>=10.3",
    "scikit-posthocs>=0.11",
    "statsmodels>=0.14.2",
    "tqdm>=4.66",
]
SLURM = ["submitit>=1.5.2"]
SITE = ["furo>=2024.8.6", "myst-nb>=1.1", "sphinx>=8.0", "sphinx-copybutton>=0.5.2"]
# Compiles the kernels of our own for NVIDIA GPUs; on a CPU only tests need it.
TRITON = "triton>=3.6; sys_platform == 'linux' and platform_machine == 'x86_64'"
PREPARE = [
    *COMMANDS,
    *FILES,
    "importlib_resources>=6.4",
    "tensorflow-cpu>=2.18; platform_machine == 'x86_64'",
    "tensorflow>=2.18; platform_machine != 'x86_64'",
    "tensorflow-datasets>=4.9.7",
]

INIT = Path(__file__).with_name("persist_jax").joinpath("__init__.py").read_text(encoding="utf-8")

# Without links and pictures of the repository, which a page of the package index does not have.
README = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
README = re.sub(r"<picture>.*?</picture>\n", "", README, flags=re.DOTALL)
README = re.sub(r"!\[[^\]]*\]\((?!https?:)[^)]*\)\n", "", README)
README = re.sub(r"\[([^\]]*)\]\((?!https?:)[^)]*\)", r"\1", README)

setup(
    name="persist_jax",
    version=re.search(r'^__version__ = "(.+)"$', INIT, re.MULTILINE)[1],
    description="Regularise a network by its most correlated neurons: differentiable persistence "
    "deaths on JAX, and the experiments of 'Decorrelating neurons using persistence'.",
    long_description=README,
    long_description_content_type="text/markdown",
    author="The persist_jax developers",
    license="Apache-2.0",
    keywords="topological deep learning, persistent homology, regularisation, jax, flax",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Mathematics",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    # The commands and their configurations come with the package too.
    packages=[
        *find_packages(include=["persist_jax*"]),
        "persist_jax.launch",
        "persist_jax.configs",
    ],
    package_dir={"persist_jax.launch": "launch", "persist_jax.configs": "configs"},
    entry_points={"console_scripts": ["persist-jax = persist_jax.launch.console:main"]},
    package_data={
        "persist_jax": ["py.typed"],
        "persist_jax.results": ["report.html.j2", "page/*.j2"],
    },
    install_requires=[
        "filelock>=3.13",
        "flax>=0.12.1",
        "jax>=0.10",
        "jaxlib>=0.10",
        "jaxtyping>=0.2.34",
        "numpy>=2.0",
        "optax>=0.2.4",
        "pydantic>=2.7",
        "scipy>=1.14",
    ],
    extras_require={
        "experiment": EXPERIMENT,
        "prepare": PREPARE,
        "test": [
            *EXPERIMENT,
            *PREPARE,
            *SITE,
            *SLURM,
            "basedpyright>=1.20",
            "beartype>=0.19",
            "chex>=0.1.88",
            "equinox>=0.11",
            "hypothesis>=6.112",
            "ipykernel>=6.29",
            # Leaves the source of a Triton kernel readable to Triton.
            "jaxtyping>=0.3.11",
            "mypy>=1.11",
            "nbmake>=1.5",
            "networkx>=3.3",
            "pytest>=8.3",
            "pytest-xdist>=3.6",
            "ruff>=0.8",
            "tensorboardX>=2.6.3",
            TRITON,
        ],
        "docs": [*EXPERIMENT, *SITE],
        "slurm": [*EXPERIMENT, *SLURM],
        "ray": [*EXPERIMENT, "ray>=2.40"],
        "watch": ["tensorboardX>=2.6.3"],
        "bench": [
            *EXPERIMENT,
            "giotto-ph>=0.2.4",
            "gudhi>=3.10",
            "psutil>=6.0",
            "ripser>=0.6.10",
        ],
        "cuda": ["jax[cuda12]>=0.10", TRITON],
    },
)
