"""What a run says to the person who started it from a terminal: our own words, without Dagster's events around them."""

import logging
import sys

import dagster as dg


class _OwnWords(logging.Filter):
    """No event of Dagster's and no error: what failed is one sentence, which the command says when it ends."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno < logging.ERROR and getattr(record, "dagster_meta", {}).get("dagster_event") is None


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        said = getattr(record, "dagster_meta", {}).get("orig_message") or record.getMessage()
        return f"  {said}"


@dg.logger(None, description="Progress and warnings in plain words on stderr")
def plain_words(_: dg.InitLoggerContext) -> logging.Logger:
    """The logger ``plain`` of the definitions; the command selects it by run config."""
    logger = logging.getLogger("alpha_assets.plain")
    logger.setLevel(logging.INFO)
    logger.handlers.clear()
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_OwnWords())
    handler.setFormatter(_Plain())
    logger.addHandler(handler)
    logger.propagate = False
    return logger
