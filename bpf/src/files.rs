//! The files that rules name: lists (`{ file = "nets.txt" }`) and code. The compiler does no I/O: its caller reads them.

use std::cell::RefCell;
use std::sync::Arc;

/// The maximum number of bytes of the rules file, and of each file that it names.
pub const MOST_BYTES: usize = 16 << 20;

/// Reads a file whose name is relative to the rules file. The error says why it cannot be read.
pub type Load<'l> = dyn Fn(&str) -> Result<String, String> + 'l;

/// A file that has been read.
#[derive(Debug, PartialEq, Eq)]
pub struct ListFile {
    /// Its name as written in the rules file.
    pub name: String,
    /// The whole text.
    pub text: String,
}

/// The C file of `[code]`, and the functions in it that rules name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// The file.
    pub file: Arc<ListFile>,
    /// The functions, by the numbers of [`crate::rule::Fact::Code`].
    pub tests: Vec<String>,
}

/// All files that the rules name, each read once.
pub(crate) struct Files<'l> {
    load: &'l Load<'l>,
    read: RefCell<Vec<Arc<ListFile>>>,
}

impl<'l> Files<'l> {
    pub(crate) fn new(load: &'l Load<'l>) -> Self {
        Self { load, read: RefCell::default() }
    }

    /// Reads the file of this name, once.
    pub(crate) fn read(&self, name: &str) -> Result<Arc<ListFile>, String> {
        if let Some(known) = self.read.borrow().iter().find(|file| file.name == name) {
            return Ok(Arc::clone(known));
        }
        let text = (self.load)(name)?;
        if text.len() > MOST_BYTES {
            return Err(format!("it has {} bytes: the limit is {MOST_BYTES}", text.len()));
        }
        let file = Arc::new(ListFile { name: name.to_owned(), text });
        self.read.borrow_mut().push(Arc::clone(&file));
        Ok(file)
    }

    /// The files in the order of their first use.
    pub(crate) fn all(self) -> Vec<Arc<ListFile>> {
        self.read.into_inner()
    }
}
