//! Our values as Cassandra has them and back, exactly or not at all.

use domain::{Decimal, Timestamp};
use ports::PortError;
use scylla::value::{CqlDate, CqlDecimal, CqlTimestamp};

use crate::error::{SYSTEM, corrupt};

/// The CQL date of 1970-01-01.
const EPOCH_DATE: i64 = 1 << 31;

/// `mantissa / 10^scale`, the mantissa in as few bytes as hold it, as Java's BigInteger writes it.
pub(crate) fn decimal_to_cql(value: Decimal) -> CqlDecimal {
    let bytes = value.mantissa().to_be_bytes();
    let sign = if value.mantissa() < 0 { 0xff } else { 0x00 };
    let redundant = bytes.windows(2).take_while(|pair| pair[0] == sign && (pair[1] & 0x80) == (sign & 0x80)).count();
    CqlDecimal::from_signed_be_bytes_slice_and_exponent(&bytes[redundant..], i32::from(value.scale()))
}

pub(crate) fn decimal_from_cql(value: &CqlDecimal) -> Result<Decimal, PortError> {
    let (bytes, scale) = value.as_signed_be_bytes_slice_and_exponent();
    let fits = || {
        let scale = u8::try_from(scale).ok()?;
        Decimal::new(mantissa(bytes)?, scale)
    };
    fits().ok_or_else(|| corrupt(format!("a decimal of {} bytes and scale {scale}", bytes.len())))
}

fn mantissa(bytes: &[u8]) -> Option<i128> {
    let first = *bytes.first()?;
    let sign = if first & 0x80 == 0 { 0x00 } else { 0xff };
    let redundant = bytes.len().saturating_sub(16);
    let (ahead, kept) = bytes.split_at(redundant);
    let same_sign = kept[0] & 0x80 == sign & 0x80;
    if !same_sign || ahead.iter().any(|byte| *byte != sign) {
        return None;
    }
    let mut whole = [sign; 16];
    whole[16 - kept.len()..].copy_from_slice(kept);
    Some(i128::from_be_bytes(whole))
}

pub(crate) fn timestamp_to_cql(time: Timestamp) -> CqlTimestamp {
    CqlTimestamp(time.millis())
}

pub(crate) fn timestamp_from_cql(time: CqlTimestamp) -> Timestamp {
    Timestamp::from_millis(time.0)
}

pub(crate) fn date_to_cql(day: Timestamp) -> Result<CqlDate, PortError> {
    let days = u32::try_from(day.days() + EPOCH_DATE).map(CqlDate);
    days.map_err(|_| PortError::refused(SYSTEM, format!("{day} is no date that cassandra has")))
}

/// Ids and counts are `bigint`.
pub(crate) fn number_to_cql(name: &str, value: u64) -> Result<i64, PortError> {
    i64::try_from(value).map_err(|_| PortError::refused(SYSTEM, format!("{name}: {value} does not fit a bigint")))
}

pub(crate) fn number_from_cql(name: &str, value: i64) -> Result<u64, PortError> {
    u64::try_from(value).map_err(|_| corrupt(format!("{name} is {value}, expected 0 or more")))
}

/// The write timestamp of a version. Versions are offsets and begin at 0; write timestamps have to
/// be positive.
pub(crate) fn version_to_writetime(version: i64) -> Result<i64, PortError> {
    let fits = (0..i64::MAX).contains(&version);
    fits.then_some(version + 1)
        .ok_or_else(|| PortError::refused(SYSTEM, format!("{version} is no version: expected an offset")))
}

pub(crate) fn version_from_writetime(writetime: i64) -> i64 {
    writetime - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(mantissa: i128, scale: u8) {
        let decimal = Decimal::new(mantissa, scale).unwrap();
        let again = decimal_from_cql(&decimal_to_cql(decimal)).unwrap();
        assert_eq!((again.mantissa(), again.scale()), (mantissa, scale));
    }

    #[test]
    fn decimals_keep_every_digit_and_the_scale() {
        for shift in 0..127 {
            let power = 1_i128 << shift;
            for mantissa in [power - 1, power, power + 1, -power - 1, -power, 1 - power] {
                there_and_back(mantissa, 8);
            }
        }
        for (mantissa, scale) in [(i128::MAX, 36), (i128::MIN, 0), (0, 0), (0, 18), (6_183_763_000_000, 8)] {
            there_and_back(mantissa, scale);
        }
    }

    #[test]
    fn decimals_are_written_as_java_writes_them() {
        let bytes = |mantissa: i128| {
            let cql = decimal_to_cql(Decimal::new(mantissa, 2).unwrap());
            cql.as_signed_be_bytes_slice_and_exponent().0.to_vec()
        };
        assert_eq!(bytes(0), [0x00]);
        assert_eq!(bytes(127), [0x7f]);
        assert_eq!(bytes(128), [0x00, 0x80]);
        assert_eq!(bytes(-1), [0xff]);
        assert_eq!(bytes(-128), [0x80]);
        assert_eq!(bytes(-129), [0xff, 0x7f]);
    }

    #[test]
    fn foreign_decimals_are_read_or_refused_never_changed() {
        let read = |bytes: &[u8], scale| {
            decimal_from_cql(&CqlDecimal::from_signed_be_bytes_slice_and_exponent(bytes, scale)).ok()
        };
        let padded = [0; 20].into_iter().chain([0x05]).collect::<Vec<u8>>();
        assert_eq!(read(&padded, 1).unwrap().mantissa(), 5);
        assert_eq!(read(&[0xff; 20], 1).unwrap().mantissa(), -1);
        let mut too_large = vec![0_u8];
        too_large.extend([0xff; 16]);
        assert!(read(&too_large, 1).is_none());
        assert!(read(&[1], -1).is_none());
        assert!(read(&[1], 40).is_none());
        assert!(read(&[], 0).is_none());
    }

    #[test]
    fn dates_count_from_the_middle() {
        let day = Timestamp::from_millis(1_723_161_255_342).day();
        assert_eq!(date_to_cql(day).unwrap(), CqlDate((1 << 31) + 19_943));
    }

    #[test]
    fn versions_are_positive_write_timestamps() {
        assert_eq!(version_to_writetime(0).unwrap(), 1);
        assert_eq!(version_from_writetime(version_to_writetime(77).unwrap()), 77);
        assert!(version_to_writetime(-1).is_err());
    }
}
