//! An MP4 file that can be played at any moment of its making.
//!
//! ```text
//! create       part      empty; an existing ball.mp4 untouched
//! first chunk  ball.mp4  header and first fragment, renamed into place
//! next chunks  ball.mp4  one more fragment each
//! complete     part      ftyp moov mdat, copied from the fragments, then renamed
//! ```
//!
//! Invariant: from the first chunk on, the file at the final name is a header and whole
//! fragments (plus, after a kill in the middle of a write, a torn last one, which
//! players drop). A failed write is cut off, and the rest completed. If the copy for fast
//! start does not fit on the disk, the fragmented file stays: it is whole, only slower to
//! open over a network.
//!
//! Memory: 4 bytes a picture and 12 a chunk for the tables of the finished file, which
//! is 0.3 MB for an hour.

use std::{io, path::Path};

use super::{
    Fragment, Fragmenter,
    fragments::{Fragments, Target},
    movie::{Movie, Tables},
};
use crate::{Error, Options, Summary, h264::ParameterSets, part_file::PartFile};

/// Keeps the fragments of a video in an MP4 file.
pub(crate) struct Mp4File {
    file: PartFile,
    options: Options,
    sets: ParameterSets,
    /// Header of the fragmented file.
    header: Vec<u8>,
    index: Index,
    /// Why the file could not be rewritten for fast start.
    kept_fragmented: Option<String>,
}

/// Where the access units lie in the fragmented file.
#[derive(Default)]
struct Index {
    unit_bytes: Vec<u32>,
    part_pictures: Vec<u32>,
    part_offsets: Vec<u64>,
}

impl Mp4File {
    /// Opens `path` for a video; see [`PartFile`] for what happens to an existing file.
    pub(crate) fn create(path: &Path, options: &Options) -> Result<Fragments<Self>, Error> {
        let fragmenter = Fragmenter::new(options)?;
        let file = Self {
            file: PartFile::create(path)?,
            options: *options,
            sets: fragmenter.parameter_sets().clone(),
            header: fragmenter.header().to_vec(),
            index: Index::default(),
            kept_fragmented: None,
        };
        Ok(Fragments::new(fragmenter, file))
    }

    /// Writes the same pictures with all tables first and renames that into place.
    fn rewrite_for_fast_start(&self) -> io::Result<PartFile> {
        let data_bytes: u64 = self.index.unit_bytes.iter().map(|&bytes| u64::from(bytes)).sum();
        let mut copy = self.file.successor()?;
        copy.append(&self.finished_header())?;
        copy.append(&wide_mdat_header(data_bytes))?;
        for (offset, bytes) in self.index.parts() {
            copy.append_from(&self.file, offset, bytes)?;
        }
        copy.sync()?;
        copy.publish()?;
        Ok(copy)
    }

    /// Header of the finished file, with the offsets the parts will have in it.
    fn finished_header(&self) -> Vec<u8> {
        let header = |part_offsets: &[u64]| {
            let Index { unit_bytes: sizes, part_pictures, .. } = &self.index;
            let movie = Movie { options: &self.options, sets: &self.sets };
            movie.finished_header(&Tables { sizes, part_pictures, part_offsets })
        };
        // The offsets depend on the header's length, and that on their number only.
        let header_bytes = header(&self.index.part_offsets).len();
        let mut offset = (header_bytes + wide_mdat_header(0).len()) as u64;
        let mut part_offsets = Vec::with_capacity(self.index.part_offsets.len());
        for (_, bytes) in self.index.parts() {
            part_offsets.push(offset);
            offset += bytes;
        }
        header(&part_offsets)
    }
}

impl Target for Mp4File {
    /// The first fragment brings the header along, and the file to its name.
    fn write(&mut self, fragment: &Fragment) -> io::Result<()> {
        if self.file.is_published() {
            self.file.append(&fragment.bytes)?;
        } else {
            self.file.append(&[&self.header[..], &fragment.bytes].concat())?;
            self.file.publish()?;
        }
        self.index.add(fragment, self.file.bytes());
        Ok(())
    }

    fn complete(&mut self) -> io::Result<()> {
        if !self.file.is_published() {
            return Ok(());
        }
        match self.rewrite_for_fast_start() {
            Ok(finished) => {
                self.file = finished;
                Ok(())
            }
            Err(reason) => {
                self.kept_fragmented = Some(reason.to_string());
                self.file.sync()
            }
        }
    }

    fn summary(&self) -> Summary {
        Summary {
            pictures: self.index.pictures(),
            bytes: if self.file.is_published() { self.file.bytes() } else { 0 },
            path: Some(self.file.path().into()),
            kept_fragmented: self.kept_fragmented.clone(),
        }
    }
}

impl Index {
    /// Adds a fragment that ends where the file now does.
    fn add(&mut self, fragment: &Fragment, file_bytes: u64) {
        let data_bytes: u64 = fragment.unit_bytes.iter().map(|&bytes| u64::from(bytes)).sum();
        let pictures = u32::try_from(fragment.unit_bytes.len()).expect("a fragment is bounded");
        self.part_pictures.push(pictures);
        self.part_offsets.push(file_bytes - data_bytes);
        self.unit_bytes.extend(&fragment.unit_bytes);
    }

    /// Offset and size in bytes of the data of every fragment.
    fn parts(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut units = self.unit_bytes.iter();
        self.part_offsets.iter().zip(&self.part_pictures).map(move |(&offset, &pictures)| {
            let units = units.by_ref().take(pictures as usize);
            (offset, units.map(|&bytes| u64::from(bytes)).sum())
        })
    }

    fn pictures(&self) -> u64 {
        self.unit_bytes.len() as u64
    }
}

/// Header of an `mdat` box whose size may pass 4 GiB (ISO/IEC 14496-12, 4.2.2).
fn wide_mdat_header(data_bytes: u64) -> [u8; 16] {
    let mut header = *b"\0\0\0\x01mdat\0\0\0\0\0\0\0\0";
    header[8..].copy_from_slice(&(data_bytes + 16).to_be_bytes());
    header
}
