#include "parameters.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <sstream>
#include <string_view>

#include "backend.hpp"

namespace kimgnn {
namespace {

constexpr const char* kVersion = "2";
constexpr const char* kCommitteeVersion = "3";
constexpr const char* kCure = " Export the model again with `kimgnn export`, or mend the line.";

// Reads the file line by line, and knows which line it is at.
class LineReader {
 public:
  explicit LineReader(const std::filesystem::path& path) : file_(path) {
    if (!file_) {
      throw Error(std::string(kParameterFile) + " cannot be read. List it under PARAMETER_FILES in the model's "
                  "CMakeLists.txt, or export the model again with `kimgnn export`.");
    }
  }

  // The values of the next line, which must begin with `key`; at least one.
  std::vector<std::string> values(const std::string& key) {
    const auto words = next();
    if (words.empty()) fail("ends here, or has an empty line; '" + key + " <value>' is expected");
    if (words.front() != key) fail("begins with '" + words.front() + "'; '" + key + " <value>' is expected");
    if (words.size() == 1) fail("'" + key + "' has no value");
    return {words.begin() + 1, words.end()};
  }

  std::string value(const std::string& key) {
    const auto all = values(key);
    if (all.size() > 1) fail("'" + key + "' takes one value; " + std::to_string(all.size()) + " are given");
    return all.front();
  }

  template <typename Number>
  Number number(const std::string& key, const char* meaning) {
    const std::string text = value(key);
    Number result{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), result);
    const bool whole = error == std::errc() && end == text.data() + text.size();
    if (!whole || !std::isfinite(static_cast<double>(result)) || result <= 0) {
      fail("'" + key + " " + text + "' is not " + meaning);
    }
    return result;
  }

  void end() {
    while (file_.good()) {
      if (!next().empty()) fail("is not expected: the file ends before");
    }
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw Error(std::string(kParameterFile) + " line " + std::to_string(line_) + ": " + what + "." + kCure);
  }

 private:
  std::vector<std::string> next() {
    std::string line;
    std::getline(file_, line);
    ++line_;
    std::istringstream stream(line);
    std::vector<std::string> words;
    for (std::string word; stream >> word;) words.push_back(word);
    return words;
  }

  std::ifstream file_;
  int line_ = 0;
};

}  // namespace

Parameters read_parameters(const std::filesystem::path& directory) {
  LineReader reader(directory / kParameterFile);
  Parameters parameters;

  const auto version = reader.value("kimgnn");
  if (version != kVersion && version != kCommitteeVersion) {
    throw Error(std::string(kParameterFile) + " is of version " + version + "; this driver reads the versions " +
                kVersion + " and " + kCommitteeVersion + ". " + (version == "1" ? kExportAgain
                                      : "Bring the driver up to date with `kimgnn driver install --force`."));
  }
  parameters.backend = reader.value("backend");
  const std::filesystem::path model = reader.value("model");
  if (model.has_parent_path()) reader.fail("'" + model.string() + "' must be a plain file name");
  parameters.model_file = directory / model;
  if (!std::filesystem::is_regular_file(parameters.model_file)) {
    reader.fail("no file '" + model.string() + "' among the model's PARAMETER_FILES");
  }
  parameters.cutoff = reader.number<double>("cutoff", "a positive length in Å");
  parameters.layers = reader.number<int>("layers", "a positive whole number");
  parameters.species = reader.values("species");
  for (auto name = parameters.species.begin(); name != parameters.species.end(); ++name) {
    if (std::find(parameters.species.begin(), name, *name) != name) reader.fail("'" + *name + "' is given twice");
  }
  parameters.members = 1;
  if (version == kCommitteeVersion) {
    parameters.members = reader.number<int>("members", "a number of networks");
    if (parameters.members == 1) reader.fail("a committee has two members at least");
  }
  reader.end();
  return parameters;
}

}  // namespace kimgnn
