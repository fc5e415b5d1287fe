"""Utilities that all packages share: errors, validation, files, compiled functions, memory, command lines.

errors               the exceptions of the toolkit
validation           validation of integer arguments
extras               the extras that install optional packages, and errors where one is missing
files                atomic replacement of files, and locks on folders
signals              signals deferred to a safe point, and workers that end with their parent
splits               names of splits, and file names of the corpus
checksummed_hdf5     HDF5 files with a SHA-256 checksum, written atomically and read defensively
budget               the limit on what a reader of untrusted files may create
untrusted_files      reading small files from untrusted sources
untrusted_hdf5       checks on HDF5 files from untrusted sources
chunked_rows         random access to the rows of such a file
pickles              an interpreter for untrusted pickles that executes no code
compilation          `compiled`, numba functions cached on disk
clusters             backends of joblib: processes, Dask, Ray
memory               available memory, peak memory and out-of-memory errors
optional_models      torchvision and timm, which are optional, and models by name
pretrained_weights   building models of torchvision and timm without downloads
detection_operators  detection models of torchvision without its compiled operators
global_random        seeds for libraries that draw from global generators
command_line         argument parsing and error reporting of the command lines
help_text            layout of help texts
list_option          options with several values
subcommands          programs with several commands, imported when they are used
progress             progress bars, or lines without a terminal
standard_streams     standard streams that are closed or full
registry             named implementations, to which users add their own
lazy                 lazy re-exports of packages
user_modules         imported modules that no installed package contains, and what they import

Only `optional_models` and `detection_operators` import torch; names are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepnets.support.lazy import lazy_exports

if TYPE_CHECKING:
    from deepnets.support.budget import Budget as Budget
    from deepnets.support.checksummed_hdf5 import create_group as create_group
    from deepnets.support.checksummed_hdf5 import create_hdf5 as create_hdf5
    from deepnets.support.checksummed_hdf5 import error_reason as error_reason
    from deepnets.support.checksummed_hdf5 import open_hdf5 as open_hdf5
    from deepnets.support.checksummed_hdf5 import read_attribute as read_attribute
    from deepnets.support.checksummed_hdf5 import safe_datasets as safe_datasets
    from deepnets.support.checksummed_hdf5 import safe_group as safe_group
    from deepnets.support.checksummed_hdf5 import verify_checksum as verify_checksum
    from deepnets.support.chunked_rows import ChunkedRows as ChunkedRows
    from deepnets.support.clusters import CLUSTERS as CLUSTERS
    from deepnets.support.clusters import check_cluster as check_cluster
    from deepnets.support.clusters import cluster_error as cluster_error
    from deepnets.support.clusters import loky_processes as loky_processes
    from deepnets.support.command_line import Parser as Parser
    from deepnets.support.command_line import deprecated_option as deprecated_option
    from deepnets.support.command_line import non_negative as non_negative
    from deepnets.support.command_line import number as number
    from deepnets.support.command_line import output_path as output_path
    from deepnets.support.command_line import positive as positive
    from deepnets.support.command_line import positive_number as positive_number
    from deepnets.support.command_line import run as run
    from deepnets.support.command_line import seed as seed
    from deepnets.support.compilation import compiled as compiled
    from deepnets.support.compilation import digest_of_sources as digest_of_sources
    from deepnets.support.detection_operators import import_detection as import_detection
    from deepnets.support.errors import BusyError as BusyError
    from deepnets.support.errors import CheckpointError as CheckpointError
    from deepnets.support.errors import ConfigError as ConfigError
    from deepnets.support.errors import DeepNetsError as DeepNetsError
    from deepnets.support.errors import FormatError as FormatError
    from deepnets.support.errors import IntegrityError as IntegrityError
    from deepnets.support.errors import MissingDataError as MissingDataError
    from deepnets.support.errors import MissingDependencyError as MissingDependencyError
    from deepnets.support.errors import TraceError as TraceError
    from deepnets.support.errors import TrainingError as TrainingError
    from deepnets.support.errors import in_one_line as in_one_line
    from deepnets.support.errors import printable as printable
    from deepnets.support.extras import EXTRA_OF as EXTRA_OF
    from deepnets.support.extras import install_command as install_command
    from deepnets.support.extras import missing_dependency as missing_dependency
    from deepnets.support.extras import naming_extras as naming_extras
    from deepnets.support.files import atomic_write as atomic_write
    from deepnets.support.files import exclusive as exclusive
    from deepnets.support.files import naming_full_disk as naming_full_disk
    from deepnets.support.files import remove_temporary as remove_temporary
    from deepnets.support.files import replace_file as replace_file
    from deepnets.support.files import sync as sync
    from deepnets.support.global_random import seeded_globals as seeded_globals
    from deepnets.support.help_text import HelpFormatter as HelpFormatter
    from deepnets.support.help_text import examples as examples
    from deepnets.support.list_option import ListOption as ListOption
    from deepnets.support.list_option import split_list as split_list
    from deepnets.support.memory import PeakMemory as PeakMemory
    from deepnets.support.memory import available_memory as available_memory
    from deepnets.support.memory import is_out_of_memory as is_out_of_memory
    from deepnets.support.optional_models import import_timm as import_timm
    from deepnets.support.optional_models import import_torchvision as import_torchvision
    from deepnets.support.optional_models import load_model as load_model
    from deepnets.support.pickles import DAMAGED as DAMAGED
    from deepnets.support.pickles import Bounded as Bounded
    from deepnets.support.pickles import Name as Name
    from deepnets.support.pickles import Unfinished as Unfinished
    from deepnets.support.pickles import fill as fill
    from deepnets.support.pickles import read_pickle as read_pickle
    from deepnets.support.pickles import shown as shown
    from deepnets.support.progress import NOTICES as NOTICES
    from deepnets.support.progress import ProgressBar as ProgressBar
    from deepnets.support.registry import Registry as Registry
    from deepnets.support.registry import import_attribute as import_attribute
    from deepnets.support.registry import is_attribute as is_attribute
    from deepnets.support.signals import DeferredSignals as DeferredSignals
    from deepnets.support.signals import EndWithParent as EndWithParent
    from deepnets.support.splits import EVALUATION_SPLITS as EVALUATION_SPLITS
    from deepnets.support.splits import IMAGE_SPLITS as IMAGE_SPLITS
    from deepnets.support.splits import NETWORK_SPLITS as NETWORK_SPLITS
    from deepnets.support.splits import STORED_SPLITS as STORED_SPLITS
    from deepnets.support.splits import corpus_path as corpus_path
    from deepnets.support.subcommands import Command as Command
    from deepnets.support.subcommands import build_parser as build_parser
    from deepnets.support.subcommands import dispatch as dispatch
    from deepnets.support.subcommands import find_user_modules_last as find_user_modules_last
    from deepnets.support.subcommands import resume_hint as resume_hint
    from deepnets.support.subcommands import started_by as started_by
    from deepnets.support.untrusted_files import check_regular as check_regular
    from deepnets.support.untrusted_files import parse_csv as parse_csv
    from deepnets.support.untrusted_files import parse_json as parse_json
    from deepnets.support.untrusted_files import read_whole as read_whole
    from deepnets.support.untrusted_hdf5 import check_chunks as check_chunks
    from deepnets.support.untrusted_hdf5 import check_filters as check_filters
    from deepnets.support.untrusted_hdf5 import get_member as get_member
    from deepnets.support.untrusted_hdf5 import read_array as read_array
    from deepnets.support.user_modules import is_of_user as is_of_user
    from deepnets.support.user_modules import with_imports as with_imports
    from deepnets.support.validation import abbreviated as abbreviated
    from deepnets.support.validation import at_least as at_least
    from deepnets.support.validation import checked_integer as checked_integer

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "budget": ("Budget",),
        "chunked_rows": ("ChunkedRows",),
        "checksummed_hdf5": (
            "verify_checksum",
            "create_hdf5",
            "create_group",
            "open_hdf5",
            "read_attribute",
            "error_reason",
            "safe_datasets",
            "safe_group",
        ),
        "clusters": (
            "CLUSTERS",
            "check_cluster",
            "cluster_error",
            "loky_processes",
        ),
        "command_line": (
            "Parser",
            "deprecated_option",
            "non_negative",
            "number",
            "output_path",
            "positive",
            "positive_number",
            "run",
            "seed",
        ),
        "compilation": (
            "compiled",
            "digest_of_sources",
        ),
        "detection_operators": ("import_detection",),
        "errors": (
            "BusyError",
            "CheckpointError",
            "ConfigError",
            "DeepNetsError",
            "FormatError",
            "IntegrityError",
            "MissingDataError",
            "MissingDependencyError",
            "TraceError",
            "TrainingError",
            "in_one_line",
            "printable",
        ),
        "extras": (
            "EXTRA_OF",
            "install_command",
            "missing_dependency",
            "naming_extras",
        ),
        "files": (
            "atomic_write",
            "exclusive",
            "naming_full_disk",
            "remove_temporary",
            "replace_file",
            "sync",
        ),
        "global_random": ("seeded_globals",),
        "help_text": (
            "HelpFormatter",
            "examples",
        ),
        "list_option": (
            "ListOption",
            "split_list",
        ),
        "memory": (
            "PeakMemory",
            "available_memory",
            "is_out_of_memory",
        ),
        "optional_models": (
            "import_timm",
            "import_torchvision",
            "load_model",
        ),
        "pickles": (
            "DAMAGED",
            "Bounded",
            "Name",
            "Unfinished",
            "fill",
            "read_pickle",
            "shown",
        ),
        "progress": (
            "NOTICES",
            "ProgressBar",
        ),
        "registry": (
            "Registry",
            "import_attribute",
            "is_attribute",
        ),
        "signals": (
            "DeferredSignals",
            "EndWithParent",
        ),
        "splits": (
            "EVALUATION_SPLITS",
            "IMAGE_SPLITS",
            "NETWORK_SPLITS",
            "STORED_SPLITS",
            "corpus_path",
        ),
        "subcommands": (
            "Command",
            "build_parser",
            "dispatch",
            "find_user_modules_last",
            "resume_hint",
            "started_by",
        ),
        "untrusted_files": (
            "check_regular",
            "parse_csv",
            "parse_json",
            "read_whole",
        ),
        "untrusted_hdf5": (
            "check_chunks",
            "check_filters",
            "get_member",
            "read_array",
        ),
        "user_modules": (
            "is_of_user",
            "with_imports",
        ),
        "validation": (
            "abbreviated",
            "at_least",
            "checked_integer",
        ),
    },
)
