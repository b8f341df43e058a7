"""Write the report again from the results on disk; several sweeps are combined into one table.

python -m launch.report --workdir=DIR [--workdir=DIR2 ...] [--output=DIR]

The report of one sweep goes to DIR/report, that of several sweeps to report-DIR-DIR2 beside DIR.
"""


from .command_line import flags, run

WORKDIR = flags.DEFINE_multi_string("workdir", None, "A sweep's folder; may be repeated.")
OUTPUT = flags.DEFINE_string(
    "output", None, "Default: DIR/report; for several folders report-DIR-DIR2 beside DIR."
)
SIGNIFICANCE = flags.DEFINE_float(
    "significance", None, "Level of the tests; default: the configuration's."
)
flags.DEFINE_alias("alpha", "significance")
TEST = flags.DEFINE_string("test", None, "nemenyi or wilcoxon; default: the configuration's.")
CORRECTION = flags.DEFINE_string("correction", None, "holm or bonferroni; default as above.")
flags.mark_flag_as_required("workdir")


def main() -> None:
    # Slow imports only after the flags are parsed.
    from persist_jax.results.escape import printable
    from persist_jax.results.report import write_report
    from persist_jax.store import ReportOptions, read_report_options

    given = {"significance": SIGNIFICANCE.value, "test": TEST.value, "correction": CORRECTION.value}
    given = {name: value for name, value in given.items() if value is not None}
    options = ReportOptions.read(read_report_options(WORKDIR.value[0]).plain() | given)
    path = write_report(WORKDIR.value, OUTPUT.value, options)
    print(path.with_name("accuracies.md").read_text(encoding="utf-8"))
    print(f"Report: {printable(str(path))}")


if __name__ == "__main__":
    run(main)
