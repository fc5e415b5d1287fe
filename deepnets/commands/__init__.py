"""The command line `deepnets`, with the commands of all packages.

corpus         commands about files of the corpus
graphs         commands about graphs of networks
model_options  options that name a model
output_option  the option --out
completion     completion of commands and options in shells

`COMMANDS` names modules of the other packages as text.  They are imported when they are used, so the packages still
import each other in one direction.
"""

from __future__ import annotations

from collections.abc import Sequence

from deepnets.support import Command, dispatch, examples

__all__ = ["COMMANDS", "DESCRIPTION", "EPILOG", "commands_of", "main"]

DESCRIPTION = "DeepNets-1M: architectures as graphs, hypernetworks that predict their parameters, and a benchmark."

EPILOG = examples(
    "deepnets build --train-size 20,000",
    "deepnets predict --model torchvision:resnet50 --model-kwarg num_classes=10 \\",
    "  --checkpoint ghn2-digits --out resnet50.safetensors",
    "deepnets bench --splits test --limit 10",
    "deepnets train --help",
)

COMMANDS = {
    "build": Command("build the corpus, or resume an interrupted build", "generator.commands", resumes=True),
    "splits": Command("list the splits of the corpus and their rules", "generator.commands"),
    "info": Command("describe corpus files and hypernetworks", "deepnets.commands.corpus"),
    "verify": Command("verify every byte, every graph and every number of corpus files", "deepnets.commands.corpus"),
    "draw": Command("draw the graph of a network", "deepnets.commands.graphs"),
    "trace": Command("describe the graph of any PyTorch model", "deepnets.commands.graphs"),
    "onnx": Command("write the graph of a network as ONNX", "deepnets.commands.graphs"),
    "parquet": Command("write splits as Parquet files, for Hugging Face datasets", "deepnets.commands.corpus"),
    "export": Command("write splits in the format of the original release", "deepnets.commands.corpus"),
    "import": Command("convert files of the original release to corpus files", "deepnets.commands.corpus"),
    "train": Command("train a hypernetwork, or resume its training", "ghn_model.commands.train", resumes=True),
    "predict": Command("predict the parameters of a model and write them to a file", "ghn_model.commands.predict"),
    "list": Command("list the bundled hypernetworks", "ghn_model.commands.info"),
    "convert": Command("write a hypernetwork for the original code, or as ours", "ghn_model.commands.export", "export"),
    "profile": Command("measure where the time of a training step goes", "ghn_model.commands.profile"),
    "bench": Command("evaluate predictors, and write a report", "benchmark.commands.run", "run", resumes=True),
    "report": Command("write a page, charts and tables about a folder of results", "benchmark.commands.report"),
    "sgd": Command("train networks: the baseline of predicted parameters", "benchmark.commands.sgd", resumes=True),
    "finetune": Command("fine-tune networks from predicted parameters", "benchmark.commands.sgd", resumes=True),
    "properties": Command("predict properties of trained networks from graphs", "benchmark.commands.properties"),
    "statistics": Command("statistics of graphs, and their correlation with accuracy", "benchmark.commands.statistics"),
    "search": Command("rank architectures by a predicted property", "benchmark.commands.search"),
    "published": Command("show the tables of the papers, and own results", "benchmark.commands.published"),
    "card": Command("bundle a trained hypernetwork, with a card", "benchmark.commands.card"),
    "completion": Command("print a script that completes commands in a shell", "deepnets.commands.completion"),
}
"""All commands, in the order of the help text."""


def commands_of(package: str) -> dict[str, Command]:
    """Return the commands of a package, by the names that they have in ``python -m PACKAGE``.

    Parameters
    ----------
    package
        Name of the package.

    Examples
    --------
    >>> list(commands_of("generator"))
    ['build', 'splits']
    """
    return {
        command.own_name or name: command
        for name, command in COMMANDS.items()
        if command.module.partition(".")[0] == package
    }


def main(arguments: Sequence[str], program: str = "deepnets") -> None:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str
        The arguments after the name of the program.
    program : str, default "deepnets"
        The name of the program in help texts and errors.

    Raises
    ------
    DeepNetsError
        If an argument or a file is not valid.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:  # doctest: +ELLIPSIS
    ...     main(["draw", "--out", f"{folder}/darts.svg", "--genotype", "DARTS", "--cells", "2"])
    /.../darts.svg: Graph(... nodes, ... edges)
    """
    dispatch(program, DESCRIPTION, COMMANDS, arguments, EPILOG)
