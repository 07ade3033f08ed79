// A load generator for bench_serve.py that takes little of the two cores which it shares with the server.
//
//     http_load HOST PORT FILE RATE SECONDS CONNECTIONS
//
// FILE holds requests, each after its length as four bytes, least significant first; they are sent in turn. RATE is in
// requests per second, whether or not answers come; 0 lets each connection send its next request once it is answered.
// Prints one line per request: its status, and the seconds from when it was due until its answer was complete. Status 0:
// the connection ended without an answer; -1: it could not be opened; -2: none was free.

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <strings.h>
#include <utility>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

constexpr double kLastAnswers = 15;  // seconds to wait for them

struct Connection {
    int fd = -1;
    bool waiting = false;
    double due = 0;
    std::string received;
};

class Load {
  public:
    Load(const sockaddr_in& address, std::vector<std::string> requests, size_t connections)
        : address_(address), requests_(std::move(requests)), connections_(connections), epoll_(epoll_create1(0)) {
        for (size_t i = connections; i-- > 0;) free_.push_back(i);
    }

    void run(double rate, double seconds) {
        const auto start = Clock::now();
        const auto now = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
        size_t sent = 0;
        std::vector<epoll_event> events(1024);
        for (double time = now(); time < seconds || (waiting_ > 0 && time < seconds + kLastAnswers); time = now()) {
            if (rate == 0 && time < seconds) {
                while (!free_.empty()) send_next(sent++, now());
            }
            for (; rate > 0 && sent / rate < std::min(time, seconds); ++sent) {
                if (free_.empty()) report(-2, 0);
                else send_next(sent, sent / rate);
            }
            const int count = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), 1);
            for (int i = 0; i < count; ++i) receive(events[i].data.u64, now);
        }
        for (; waiting_ > 0; --waiting_) report(0, 0);
    }

    void print() const {
        for (const auto& [status, seconds] : results_) std::printf("%d %.6f\n", status, seconds);
    }

  private:
    void report(int status, double seconds) { results_.emplace_back(status, seconds); }

    void send_next(size_t number, double due) {
        const size_t index = free_.back();
        Connection& connection = connections_[index];
        if (connection.fd < 0 && !open(index)) {
            report(-1, 0);
            std::rotate(free_.begin(), free_.end() - 1, free_.end());
            return;
        }
        const std::string& request = requests_[number % requests_.size()];
        free_.pop_back();
        connection.waiting = true;
        connection.due = due;
        ++waiting_;
        if (send(connection.fd, request.data(), request.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(request.size())) {
            finish(index, 0, due);
            close_it(connection);
        }
    }

    bool open(size_t index) {
        const int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(fd, reinterpret_cast<const sockaddr*>(&address_), sizeof address_) != 0) {
            close(fd);
            return false;
        }
        const int yes = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        fcntl(fd, F_SETFL, O_NONBLOCK);
        epoll_event event{};
        event.events = EPOLLIN;
        event.data.u64 = index;
        epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
        connections_[index].fd = fd;
        return true;
    }

    template <typename Now>
    void receive(size_t index, const Now& now) {
        Connection& connection = connections_[index];
        char buffer[16384];
        const ssize_t size = recv(connection.fd, buffer, sizeof buffer, 0);
        if (size < 0 && errno == EAGAIN) return;
        if (size <= 0) {
            close_it(connection);
            if (connection.waiting) finish(index, 0, now());
            return;
        }
        connection.received.append(buffer, static_cast<size_t>(size));
        const size_t end = connection.received.find("\r\n\r\n");
        if (end == std::string::npos) return;
        const std::string head = connection.received.substr(0, end + 2);
        const char* length = strcasestr(head.c_str(), "\r\ncontent-length: ");
        if (connection.received.size() < end + 4 + (length ? std::strtoul(length + 18, nullptr, 10) : 0)) return;
        if (strcasestr(head.c_str(), "\r\nconnection: close")) close_it(connection);
        finish(index, std::atoi(head.c_str() + 9), now());
    }

    void finish(size_t index, int status, double now) {
        Connection& connection = connections_[index];
        report(status, now - connection.due);
        connection.waiting = false;
        connection.received.clear();
        --waiting_;
        free_.push_back(index);
    }

    static void close_it(Connection& connection) {
        close(connection.fd);
        connection.fd = -1;
    }

    sockaddr_in address_;
    std::vector<std::string> requests_;
    std::vector<Connection> connections_;
    std::vector<size_t> free_;
    std::vector<std::pair<int, double>> results_;
    size_t waiting_ = 0;
    int epoll_;
};

std::vector<std::string> read_requests(const char* path) {
    std::ifstream file(path, std::ios::binary);
    const std::string content{std::istreambuf_iterator<char>(file), {}};
    std::vector<std::string> requests;
    for (size_t place = 0; place + 4 <= content.size();) {
        unsigned char size[4];
        std::memcpy(size, content.data() + place, 4);
        const size_t length = size[0] | size[1] << 8 | size[2] << 16 | static_cast<size_t>(size[3]) << 24;
        requests.push_back(content.substr(place + 4, length));
        place += 4 + length;
    }
    return requests;
}

}  // namespace

int main(int count, char** words) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    if (count != 7 || inet_pton(AF_INET, words[1], &address.sin_addr) != 1) {
        std::fprintf(stderr, "usage: http_load IPV4 PORT FILE RATE SECONDS CONNECTIONS\n");
        return 2;
    }
    address.sin_port = htons(static_cast<uint16_t>(std::atoi(words[2])));
    Load load(address, read_requests(words[3]), static_cast<size_t>(std::atoi(words[6])));
    load.run(std::atof(words[4]), std::atof(words[5]));
    load.print();
    return 0;
}
