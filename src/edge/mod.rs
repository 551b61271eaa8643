//! Floor 4: the street.
