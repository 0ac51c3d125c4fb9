//! Raw payload to log.
