//! A report as text, for a terminal of 80 columns.

use super::{Column, ElementBytes, Kind, Report, Saved, Span, WindowFrames};
use crate::{
    length::Length,
    memory::{Memory, Size, Term},
    units::{Bytes, counted, grouped},
};

impl Report {
    /// The report as text of several lines, the last one ended.
    pub fn table(&self) -> String {
        let [dense, mla] = [self.dense.as_ref(), self.mla.as_ref()];
        let both = |bytes: fn(&Column) -> u64| [dense.map(bytes), mla.map(bytes)];
        let per_token = format!("per token, {}", counted(self.layers as u64, "layer"));
        let mut lines = self.heading();
        lines.push(line("cache of the self-attention", ["dense", "mla"]));
        lines.push(bytes_line("per token, per layer", both(|column| column.row_bytes)));
        lines.push(bytes_line(&per_token, both(|column| column.token_bytes)));
        lines.extend(self.spans.iter().map(span_line));
        lines.extend(self.remarks());
        lines.push(String::new());

        lines.push(line("held at once", ["dense", "mla"]));
        lines.extend(self.terms("weights, shared by all jobs", |memory| {
            (memory.shared.terms().to_vec(), memory.shared_bytes)
        }));
        lines.extend(
            self.terms("a job", |memory| (memory.per_job.terms().to_vec(), memory.per_job_bytes)),
        );
        lines.push(bytes_line("total", both(|column| column.memory.total_bytes)));
        lines.push(String::new());

        lines.push(line("for comparison", ["dense", "mla"]));
        let vae_cache = Some(self.published.vae_cache_bytes);
        let least = [dense.and(vae_cache), mla.and(vae_cache)];
        lines.push(bytes_line("VAE cache of 2 frames, as published", least));
        let parameters = both(|column| column.transformer_parameters).map(shown(grouped));
        lines.push(line("transformer parameters", parameters.each_ref().map(String::as_str)));
        lines.push(String::new());
        lines.join("\n")
    }

    /// A group of terms under its name, and their sum.
    fn terms(&self, name: &str, group: fn(&Memory) -> (Vec<Term>, u64)) -> Vec<String> {
        let columns =
            [&self.dense, &self.mla].map(|column| column.as_ref().map(|c| group(&c.memory)));
        let (names, _) = group(&self.held);
        let mut lines = vec![name.to_owned()];
        for (place, (name, _)) in names.iter().enumerate() {
            let bytes = columns.each_ref().map(|column| column.as_ref().map(|(t, _)| t[place].1));
            lines.push(bytes_line(&format!("  {name}"), bytes));
        }
        let sums = columns.map(|column| column.map(|(_, sum)| sum));
        lines.push(bytes_line("  together", sums));
        lines
    }

    fn heading(&self) -> Vec<String> {
        let Length { pictures, chunks, frames, surplus_pictures, .. } = self.length;
        let Size { width, height } = self.size;
        let ElementBytes { weights, cache, activations } = self.element_bytes;
        let attention = self.attention.name();
        let twin = if self.attention == self.own_attention { "" } else { " (not the model's own)" };
        vec![
            format!("{}, {attention}{twin}", self.model),
            format!(
                "{} s of {width}x{height} at {} pictures/s: {} pictures",
                self.seconds,
                self.fps,
                grouped(pictures),
            ),
            format!(
                "{} ({frames} frames of {} tokens), {surplus_pictures} surplus pictures dropped",
                counted(chunks.into(), "chunk"),
                grouped(self.frame_tokens as u64),
            ),
            self.window_line(),
            format!("bytes per number: factors {weights}, cache {cache}, all else {activations}"),
            String::new(),
        ]
    }

    fn window_line(&self) -> String {
        match self.window {
            None => "no window: one pass sees the whole video, its rows take one slot".to_owned(),
            Some(WindowFrames { sink, recent, chunk, slots }) => format!(
                "window: {sink} sink and {recent} recent frames besides the chunk of {chunk}; \
                 {slots} slots"
            ),
        }
    }

    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if let Some(Saved { percent, times }) = self.saved {
            remarks
                .push(format!("mla saves {percent:.1} % of this cache ({times:.1} times smaller)"));
        }
        if let Some(dense) = &self.dense {
            let keys = grouped(dense.token_bytes / 2);
            remarks.push(format!("dense counts keys and values; keys alone: {keys} B per token"));
        }
        remarks
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Dense => "dense",
            Self::Mla => "mla",
        }
    }
}

fn span_line(span: &Span) -> String {
    let Span { name, frames, dense_bytes, mla_bytes } = span;
    bytes_line(&format!("{name}, {}", counted(*frames as u64, "frame")), [*dense_bytes, *mla_bytes])
}

fn bytes_line(name: &str, bytes: [Option<u64>; 2]) -> String {
    let shown = bytes.map(shown(|bytes| Bytes(bytes).to_string()));
    line(name, shown.each_ref().map(String::as_str))
}

pub(super) fn line(name: &str, [dense, mla]: [&str; 2]) -> String {
    format!("{name:<36}{dense:>18}{mla:>18}")
}

/// Shows a number, or that its column is missing.
fn shown(show: fn(u64) -> String) -> impl Fn(Option<u64>) -> String {
    move |number| number.map_or_else(|| "-".to_owned(), show)
}
