//! Our values as Cassandra has them and back, exactly or not at all.

use domain::{Decimal, Timestamp};
use ports::PortError;
use scylla::frame::response::result::ColumnType;
use scylla::serialize::SerializationError;
use scylla::serialize::value::SerializeValue;
use scylla::serialize::writers::{CellWriter, WrittenCellProof};
use scylla::value::{CqlDate, CqlDecimal, CqlDecimalBorrowed, CqlTimestamp};

use crate::error::{SYSTEM, corrupt};

/// The CQL date of 1970-01-01.
const EPOCH_DATE: i64 = 1 << 31;

/// A decimal on its way to a column: `mantissa / 10^scale`, the mantissa in as few bytes as hold it, as Java's BigInteger
/// writes it. The driver's own type would allocate for each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ToDecimal(pub Decimal);

impl SerializeValue for ToDecimal {
    fn serialize<'b>(
        &self,
        column: &ColumnType<'_>,
        writer: CellWriter<'b>,
    ) -> Result<WrittenCellProof<'b>, SerializationError> {
        let mantissa = self.0.mantissa();
        let bytes = mantissa.to_be_bytes();
        // All but one of the bits that only repeat the sign.
        let repeated = if mantissa < 0 { mantissa.leading_ones() } else { mantissa.leading_zeros() } - 1;
        let bytes = &bytes[repeated as usize / 8..];
        let scale = i32::from(self.0.scale());
        CqlDecimalBorrowed::from_signed_be_bytes_slice_and_exponent(bytes, scale).serialize(column, writer)
    }
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
    use scylla::frame::response::result::NativeType;

    use super::*;

    /// Scale and mantissa as they are written, without the length of both.
    fn written(mantissa: i128, scale: u8) -> (i32, Vec<u8>) {
        let mut cell = Vec::new();
        let column = ColumnType::Native(NativeType::Decimal);
        ToDecimal(Decimal::new(mantissa, scale).unwrap()).serialize(&column, CellWriter::new(&mut cell)).unwrap();
        let (scale, bytes) = cell[4..].split_first_chunk().unwrap();
        (i32::from_be_bytes(*scale), bytes.to_vec())
    }

    fn there_and_back(mantissa: i128, scale: u8) {
        let (exponent, bytes) = written(mantissa, scale);
        let cql = CqlDecimal::from_signed_be_bytes_slice_and_exponent(&bytes, exponent);
        let again = decimal_from_cql(&cql).unwrap();
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
        let bytes = |mantissa: i128| written(mantissa, 2).1;
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
