"""Write the report again from what is on disk; several sweeps are combined into one table.

python -m launch.report --workdir=DIR [--workdir=DIR2 ...] [--output=DIR]
"""


from launch.command_line import flags, run

WORKDIR = flags.DEFINE_multi_string("workdir", None, "A sweep's folder; may be repeated.")
OUTPUT = flags.DEFINE_string("output", None, "The report's folder; default DIR/report.")
SIGNIFICANCE = flags.DEFINE_float(
    "significance", None, "Level of the tests; default: the configuration's."
)
flags.DEFINE_alias("alpha", "significance")
TEST = flags.DEFINE_string("test", None, "nemenyi or wilcoxon; default: the configuration's.")
CORRECTION = flags.DEFINE_string("correction", None, "holm or bonferroni; default as above.")
flags.mark_flag_as_required("workdir")


def main() -> None:
    # After the flags, so that --help and a mistyped one answer at once.
    from persist_jax.results.report import write_report
    from persist_jax.store import ReportOptions, read_report_options

    given = {"significance": SIGNIFICANCE.value, "test": TEST.value, "correction": CORRECTION.value}
    given = {name: value for name, value in given.items() if value is not None}
    options = ReportOptions.read(read_report_options(WORKDIR.value[0]).plain() | given)
    path = write_report(WORKDIR.value, OUTPUT.value, options)
    print(path.with_name("accuracies.md").read_text(encoding="utf-8"))
    print(f"Report: {path}")


if __name__ == "__main__":
    run(main)
