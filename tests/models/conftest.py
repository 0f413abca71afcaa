"""What towers read."""

from tests.small_content import *  # noqa: F403  # fixtures
