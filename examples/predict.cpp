// What an exported student sees in image files, in C++ with OpenCV's DNN module: predict student.onnx IMAGE ...
//
//   g++ -O2 predict.cpp -o predict $(pkg-config --cflags --libs opencv4)
//
// "ferkd export" writes student.json beside student.onnx: size, mean, std, classes. MobileNetV2 and EfficientNet-Lite need
// "ferkd export --opencv" for OpenCV before 4.7.
#include <iostream>
#include <opencv2/dnn.hpp>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>
#include <string>
#include <vector>

struct Card {
    int size;
    double crop_pct, range;
    std::vector<double> mean, stddev;
    std::vector<std::string> classes;
};

static Card read_card(const std::string &model)
{
    cv::FileStorage f(model.substr(0, model.rfind('.')) + ".json", cv::FileStorage::READ);
    Card c;

    c.size = (int)f["input"]["size"].real();
    c.crop_pct = f["input"]["crop_pct"].real();
    c.range = f["input"]["range"].real();
    for (const auto &v : f["input"]["mean"])
        c.mean.push_back(v.real());
    for (const auto &v : f["input"]["std"])
        c.stddev.push_back(v.real());
    for (const auto &v : f["output"]["classes"])
        c.classes.push_back(v.string());
    return c;
}

// The shorter side to size / crop_pct, the middle, (value - mean) / std: 1 x 3 x size x size, RGB.
static cv::Mat pixels(const cv::Mat &image, const Card &c)
{
    double scale = c.size / c.crop_pct / std::min(image.cols, image.rows);
    cv::Mat small;

    cv::resize(image, small, {}, scale, scale, scale < 1 ? cv::INTER_AREA : cv::INTER_CUBIC);
    cv::Rect middle((small.cols - c.size) / 2, (small.rows - c.size) / 2, c.size, c.size);
    small(middle).convertTo(small, CV_32F, c.range / 255);
    cv::cvtColor(small, small, cv::COLOR_BGR2RGB);
    small = (small - cv::Scalar(c.mean[0], c.mean[1], c.mean[2])) /
            cv::Scalar(c.stddev[0], c.stddev[1], c.stddev[2]);
    return cv::dnn::blobFromImage(small);
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        std::cerr << "usage: predict student.onnx IMAGE ...\n";
        return 2;
    }
    Card card = read_card(argv[1]);
    cv::dnn::Net student = cv::dnn::readNetFromONNX(argv[1]);
    for (int i = 2; i < argc; i++) {
        cv::Mat image = cv::imread(argv[i]);
        if (image.empty()) {
            std::cerr << argv[i] << ": cannot be read\n";
            return 1;
        }
        student.setInput(pixels(image, card));
        cv::Mat logits = student.forward().clone();
        double top;
        cv::Point best;
        cv::minMaxLoc(logits, nullptr, &top, nullptr, &best);
        cv::exp(logits - top, logits);
        std::cout << argv[i] << ": " << card.classes[best.x] << ' '
                  << logits.at<float>(best.x) / cv::sum(logits)[0] << '\n';
    }
    return 0;
}
