/* The limit that the HL7 benchmark compares with: requests and replies of fixed sizes, nothing read but their lengths.
 *
 *   pingpong serve blocking|polling ADDRESS REQUEST_BYTES REPLY_BYTES        prints its port, serves until it is killed
 *   pingpong drive blocking|polling ADDRESS PORT CONNECTIONS MESSAGES REQUEST_BYTES REPLY_BYTES    prints the seconds it took
 *
 * Blocking: a thread for each connection on both sides, send and recv in turn, as a ping-pong is usually written. Polling:
 * one thread on each side, epoll over non-blocking sockets: with many connections it serves them in batches, and is the most
 * that the machine can do. Always TCP_NODELAY, and one request in flight on each connection.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 4096, EVENTS = 256, BUFFER = 1 << 20 };

static char inbound[BUFFER], outbound[BUFFER];
static size_t received[CONNECTIONS_MAX];

static void fail(const char *what) { perror(what); exit(1); }

static struct sockaddr_in address_of(const char *text, int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, text, &address.sin_addr) != 1) { fprintf(stderr, "bad address %s\n", text); exit(2); }
    return address;
}

static void no_delay(int fd) {
    int on = 1;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on)) fail("TCP_NODELAY");
}

static void watch(int poll, int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (fd >= CONNECTIONS_MAX) { fprintf(stderr, "too many connections\n"); exit(2); }
    if (epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event)) fail("epoll_ctl");
}

static void send_all(int fd, size_t size) {
    for (size_t sent = 0; sent < size;) {
        ssize_t count = send(fd, outbound + sent, size - sent, MSG_NOSIGNAL);
        if (count > 0) sent += (size_t)count;
        else if (errno != EAGAIN && errno != EINTR) fail("send");
    }
}

/* Replies to whole requests; false at the end of the connection. */
static int answer(int fd, char *buffer, size_t request, size_t reply) {
    ssize_t bytes = recv(fd, buffer, BUFFER, 0);
    if (bytes < 0 && errno == EAGAIN) return 1;
    if (bytes <= 0) return 0;
    for (received[fd] += (size_t)bytes; received[fd] >= request; received[fd] -= request) send_all(fd, reply);
    return 1;
}

static size_t request_size, reply_size;

static void *serve_one(void *argument) {
    int fd = (int)(long)argument;
    char *buffer = malloc(BUFFER);
    while (answer(fd, buffer, request_size, reply_size)) {}
    free(buffer);
    close(fd);
    return NULL;
}

static int listening(const char *address) {
    struct sockaddr_in own = address_of(address, 0);
    socklen_t size = sizeof own;
    int server = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(server, (struct sockaddr *)&own, size) || listen(server, 1024)) fail("listen");
    if (getsockname(server, (struct sockaddr *)&own, &size)) fail("getsockname");
    printf("%d\n", ntohs(own.sin_port));
    fflush(stdout);
    return server;
}

static int accepted(int server, int flags) {
    int client = accept4(server, NULL, NULL, flags);
    if (client < 0) fail("accept");
    if (client >= CONNECTIONS_MAX) { fprintf(stderr, "too many connections\n"); exit(2); }
    no_delay(client);
    received[client] = 0;
    return client;
}

static void serve_blocking(int server) {
    for (pthread_t thread;;) {
        int client = accepted(server, 0);
        if (pthread_create(&thread, NULL, serve_one, (void *)(long)client) || pthread_detach(thread)) fail("pthread_create");
    }
}

static void serve_polling(int server) {
    int poll = epoll_create1(0);
    watch(poll, server);
    for (struct epoll_event events[EVENTS];;) {
        int count = epoll_wait(poll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == server) watch(poll, accepted(server, SOCK_NONBLOCK));
            else if (!answer(fd, inbound, request_size, reply_size)) close(fd);
        }
    }
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int connected(struct sockaddr_in *target) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)target, sizeof *target)) fail("connect");
    no_delay(fd);
    return fd;
}

static atomic_long tickets; /* how many messages may still be begun */

static void exchange(int fd) {
    char buffer[8192];
    send_all(fd, request_size);
    for (size_t have = 0; have < reply_size;) {
        ssize_t bytes = recv(fd, buffer, sizeof buffer, 0);
        if (bytes <= 0) fail("recv");
        have += (size_t)bytes;
    }
}

static void *drive_one(void *argument) {
    while (atomic_fetch_sub(&tickets, 1) > 0) exchange((int)(long)argument);
    return NULL;
}

static void drive_blocking(const int *fds, int connections) {
    static pthread_t threads[CONNECTIONS_MAX];
    for (int i = 0; i < connections; i++)
        if (pthread_create(&threads[i], NULL, drive_one, (void *)(long)fds[i])) fail("pthread_create");
    for (int i = 0; i < connections; i++) pthread_join(threads[i], NULL);
}

static void drive_polling(const int *fds, int connections) {
    long unanswered = tickets;
    int poll = epoll_create1(0);
    for (int i = 0; i < connections; i++) {
        fcntl(fds[i], F_SETFL, O_NONBLOCK);
        watch(poll, fds[i]);
        if (tickets-- > 0) send_all(fds[i], request_size);
    }
    for (struct epoll_event events[EVENTS]; unanswered > 0;) {
        int count = epoll_wait(poll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            ssize_t bytes = recv(fd, inbound, sizeof inbound, 0);
            if (bytes < 0 && errno == EAGAIN) continue;
            if (bytes <= 0) fail("recv");
            received[fd] += (size_t)bytes;
            if (received[fd] < reply_size) continue;
            received[fd] -= reply_size;
            unanswered--;
            if (tickets-- > 0) send_all(fd, request_size);
        }
    }
}

static void drive(int polling, const char *address, int port, int connections) {
    static int fds[CONNECTIONS_MAX];
    struct sockaddr_in target = address_of(address, port);
    for (int i = 0; i < connections; i++) {
        fds[i] = connected(&target);
        exchange(fds[i]); /* the way is open before the clock starts */
    }
    double begin = seconds();
    if (polling) drive_polling(fds, connections);
    else drive_blocking(fds, connections);
    printf("%.9f\n", seconds() - begin);
}

int main(int count, char **words) {
    int polling = count > 2 && !strcmp(words[2], "polling");
    if (count < 6 || (!polling && strcmp(words[2], "blocking"))) return 2;
    request_size = strtoul(words[count - 2], NULL, 10);
    reply_size = strtoul(words[count - 1], NULL, 10);
    if (request_size < 1 || reply_size < 1 || request_size > BUFFER || reply_size > BUFFER) return 2;
    if (count == 6 && !strcmp(words[1], "serve")) {
        int server = listening(words[3]);
        if (polling) serve_polling(server);
        else serve_blocking(server);
    } else if (count == 9 && !strcmp(words[1], "drive") && atoi(words[5]) <= CONNECTIONS_MAX) {
        tickets = atol(words[6]);
        drive(polling, words[3], atoi(words[4]), atoi(words[5]));
    } else return 2;
    return 0;
}
