//! Numbers, texts and addresses as bytes, and back. What is read is not trusted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Appends values.
pub(super) trait Put {
    fn number(&mut self, number: u64);
    fn signed(&mut self, number: i64);
    fn fixed(&mut self, number: u64);
    fn text(&mut self, text: &[u8]);
    fn client(&mut self, client: SocketAddr);
}

impl Put for Vec<u8> {
    /// Seven bits a byte, the lowest first; all but the last byte have the highest bit.
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.push(number as u8);
    }

    /// Small numbers of either sign are short.
    fn signed(&mut self, number: i64) {
        self.number((number << 1 ^ number >> 63).cast_unsigned());
    }

    fn fixed(&mut self, number: u64) {
        self.extend_from_slice(&number.to_le_bytes());
    }

    fn text(&mut self, text: &[u8]) {
        self.number(text.len() as u64);
        self.extend_from_slice(text);
    }

    fn client(&mut self, client: SocketAddr) {
        match client.ip() {
            IpAddr::V4(ip) => {
                self.push(4);
                self.extend_from_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                self.push(6);
                self.extend_from_slice(&ip.octets());
            }
        }
        self.extend_from_slice(&client.port().to_le_bytes());
    }
}

/// Takes values off the front; `None` when what is there is no such value.
pub(super) struct Taken<'a>(pub(super) &'a [u8]);

impl<'a> Taken<'a> {
    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]: [u8; 1]| byte)
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return None;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    pub(super) fn small<T: TryFrom<u64>>(&mut self) -> Option<T> {
        self.number()?.try_into().ok()
    }

    pub(super) fn signed(&mut self) -> Option<i64> {
        let number = self.number()?;
        Some((number >> 1).cast_signed() ^ -((number & 1).cast_signed()))
    }

    pub(super) fn fixed(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.small()?;
        self.bytes(length)
    }

    pub(super) fn string(&mut self) -> Option<String> {
        String::from_utf8(self.text()?.to_vec()).ok()
    }

    pub(super) fn client(&mut self) -> Option<SocketAddr> {
        let ip = match self.byte()? {
            4 => IpAddr::V4(Ipv4Addr::from(self.array::<4>()?)),
            6 => IpAddr::V6(Ipv6Addr::from(self.array::<16>()?)),
            _ => return None,
        };
        Some(SocketAddr::new(ip, u16::from_le_bytes(self.array()?)))
    }

    /// Each of so many values takes a byte at least.
    pub(super) fn many<T>(&mut self, mut one: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.small().filter(|count: &usize| *count <= self.0.len())?;
        (0..count).map(|_| one(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_as_they_were() {
        let mut bytes = Vec::new();
        let numbers = [0, 1, 0x7f, 0x80, 300, u64::from(u32::MAX), u64::MAX];
        let signed = [0, -1, 1, -64, 64, i64::MIN, i64::MAX];
        let clients: [SocketAddr; 2] = ["10.1.2.3:4".parse().unwrap(), "[2001:db8::7]:65535".parse().unwrap()];
        numbers.iter().for_each(|number| bytes.number(*number));
        signed.iter().for_each(|number| bytes.signed(*number));
        clients.iter().for_each(|client| bytes.client(*client));
        bytes.fixed(7);
        bytes.text(b"text");
        let mut taken = Taken(&bytes);
        assert_eq!(numbers.map(|_| taken.number().unwrap()), numbers);
        assert_eq!(signed.map(|_| taken.signed().unwrap()), signed);
        assert_eq!(clients.map(|_| taken.client().unwrap()), clients);
        assert_eq!((taken.fixed(), taken.text(), taken.byte()), (Some(7), Some(&b"text"[..]), None));
    }

    #[test]
    fn what_is_no_value_is_refused() {
        assert_eq!(Taken(&[0x80; 10]).number(), None, "without an end");
        assert_eq!(Taken(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]).number(), None, "too large");
        assert_eq!(Taken(&[5, 1, 2]).text(), None);
        assert_eq!(Taken(&[0xff, 0xff, 0xff, 0xff, 0x0f, 1]).many(Taken::byte), None, "more than there are bytes");
        assert_eq!(Taken(&[5, 1, 2, 3, 4, 5, 6]).client(), None);
    }
}
