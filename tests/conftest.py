"""What holds for all tests, however many of them run at once."""

from hypothesis import HealthCheck, settings

# How long an example takes, or is drawn, is the machine's business and not a fault.
settings.register_profile("under load", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("under load")
