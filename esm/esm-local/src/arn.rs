//! Parts of an ARN.

/// A part of an ARN, counted from 0: `arn:aws:<2 service>:<3 region>:<4 account>:<5 …>`. Empty if there is none.
pub(crate) fn part(arn: &str, place: usize) -> &str {
    arn.split(':').nth(place).unwrap_or_default()
}

/// The name of the table or the data stream in the ARN of a stream.
pub(crate) fn stream_name(arn: &str) -> &str {
    part(arn, 5).split('/').nth(1).unwrap_or(arn)
}

/// The name of a function in its ARN, with or without a version or an alias. A name is its own name.
pub(crate) fn function_name(arn: &str) -> &str {
    arn.split(':').nth(6).unwrap_or(arn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_an_arn_are_counted_and_absent_ones_are_empty() {
        let arn = "arn:aws:lambda:eu-central-1:000000000000:function:f:live";
        assert_eq!((part(arn, 2), part(arn, 3), part(arn, 6)), ("lambda", "eu-central-1", "f"));
        assert_eq!(part("", 6), "");
    }

    #[test]
    fn streams_and_functions_have_their_names_in_their_arns() {
        assert_eq!(stream_name("arn:aws:dynamodb:r:0:table/t/stream/2026-11-22T09:00:00.000"), "t");
        assert_eq!(stream_name("arn:aws:kinesis:r:0:stream/s"), "s");
        assert_eq!(function_name("arn:aws:lambda:r:0:function:f:live"), "f");
        assert_eq!(function_name("f"), "f");
    }
}
